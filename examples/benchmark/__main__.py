"""One entry to all that is measured: `python examples/benchmark WHAT ...`, or `python -m examples.benchmark WHAT ...`.

WHAT is a part of the matrix (experiments/matrix.yaml), several of them, or one of these by itself:

    run           methods side by side, as a YAML file lists them: smoke.yaml, two_hours.yaml, papers.yaml
    report        one page about that
    headline paper ablation defects mixed domains heads plot all    the matrix: learners on classes nobody knew
    single        one run, its table beside the baselines
    inversion     how fast and how well FIVE and its peers recover
    roofline      what limits FIVE's inner step, operation by operation
    priors        which drawn pictures suit which teachers
    clashes       classes that several teachers know, found without names
    resizing      filters that bring pictures to a network's size
    memory, pool  memory of a run; memory and time of a pool under its budget
    many-teachers a step and its memory with 1,000 teachers over those with 100; asking in parts
    transductive  heads that see all queries, beside the inductive one
    rejection     how well a classifier says None
    privacy       what recovered pictures and a learner reveal of the pictures that teachers saw
    against       whole verbs and loading beside an earlier commit: ratios of seconds
    compare-runs  two runs step by step: not equal is exit code 1
    black-boxes   teachers that only answer beside the same ones with weights
    processes     images per second of one process and of several
    minutes       minutes to an accuracy in one process and in several: whole runs
    scale         seconds and memory per process, 4 to 1,000 teachers, measured and counted; 100,000 on paper
    listing       time to name the teachers of a long list
    help-time     time of `hf-free --help`
    picture       the picture at the top of the README
    readme        the README's table, written from the results of headline and paper

Each has a --help of its own.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

PROGRAMS = {
    "run": "run_side_by_side",
    "report": "report_side_by_side",
    "single": "single",
    "inversion": "inversion_speed",
    "roofline": "roofline",
    "priors": "priors",
    "clashes": "clashes",
    "resizing": "resizing",
    "memory": "memory",
    "pool": "pool",
    "many-teachers": "many_teachers",
    "transductive": "transductive",
    "rejection": "rejection",
    "privacy": "privacy",
    "against": "against",
    "compare-runs": "compare_runs",
    "black-boxes": "black_boxes",
    "processes": "processes",
    "minutes": "time_to_accuracy",
    "scale": "scale",
    "listing": "listing",
    "help-time": "help_time",
    "picture": "picture",
    "readme": "readme_table",
}
"""Word on the command line -> module; any other word is a part of the matrix."""


def main(arguments: Sequence[str]) -> None:
    """Run what the first word names."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__.strip())
    elif arguments[0] in PROGRAMS:
        sys.argv = [f"benchmark {arguments[0]}", *arguments[1:]]
        runpy.run_module(f"benchmark.{PROGRAMS[arguments[0]]}", run_name="__main__")
    else:
        runpy.run_module("benchmark.run", run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
