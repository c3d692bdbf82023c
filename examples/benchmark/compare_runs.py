"""Compare two runs step by step: two logs, one configuration with two settings or at two commits; not equal is exit
code 1.

    python examples/benchmark compare-runs runs/a runs/b
    python examples/benchmark compare-runs --config run.yaml --steps 20 --second trainer.deterministic=true
    python examples/benchmark compare-runs --config run.yaml --commits main HEAD

Losses have to be equal to the last digit of the log (six decimals) unless --tolerance allows a relative difference.
Times are not compared, but shown of two settings: seconds that a step computes (on a GPU: that it takes), the median.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from hf_free import FreeConfig, train
from hf_free.runtime.device import choose_device
from hf_free.runtime.measuring import clock_of, synchronize
from hf_free.training.log_reading import read_rows

TIMES = frozenset({"minutes"})
"""Columns that no two runs share."""


@dataclass(frozen=True)
class Difference:
    """A number that is another one in the second run; None where a run lacks it."""

    step: int
    name: str
    first: float | None
    second: float | None


def compare(first: Path, second: Path, tolerance: float = 0.0) -> tuple[int, list[Difference]]:
    """Compare two logs.

    Args:
        first: A log, or a run's folder.
        second: The other.
        tolerance: Relative difference that is none.

    Returns:
        How many numbers were compared, and those that differ, in the order of steps.
    """
    rows = [_by_step(path) for path in (first, second)]
    compared, found = 0, []
    for step in sorted(rows[0].keys() | rows[1].keys()):
        one, other = (part.get(step, {}) for part in rows)
        for name in sorted((one.keys() | other.keys()) - TIMES):
            compared += 1
            if not _is_same(one.get(name), other.get(name), tolerance):
                found.append(Difference(step, name, one.get(name), other.get(name)))
    return compared, found


def _by_step(path: Path) -> dict[int, dict[str, float]]:
    path = path / "log.jsonl" if path.is_dir() else path
    if not path.is_file():
        sys.exit(f"there is no log {path}")
    rows, damaged = read_rows(path)
    if damaged or not rows:
        sys.exit(f"{path} has {damaged} damaged lines and {len(rows)} whole ones")
    return {int(row["step"]): row for row in rows if "step" in row}


def _is_same(one: float | None, other: float | None, tolerance: float) -> bool:
    if one is None or other is None:
        return one is other
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return one == other or abs(one - other) <= tolerance * max(abs(one), abs(other))


def run_both(options: argparse.Namespace, folder: Path) -> tuple[Path, Path]:
    """Train with each of the two settings, and print how long a step takes; the folders of the runs."""
    taken = {}
    for name, settings in (("first", options.first), ("second", options.second)):
        config = FreeConfig.load(options.config, values=_length(options), assignments=settings)
        device, moments = choose_device(config.trainer.device), list[float]()
        clock = clock_of(device)

        def note(*_: object) -> None:
            synchronize(device)  # noqa: B023  called in this turn
            moments.append(clock())  # noqa: B023

        train(config, output=folder / name, progress=False, watch=note)
        steps = [after - before for before, after in pairwise(moments)]
        taken[name] = statistics.median(steps[len(steps) // 2 :]) if steps else math.nan  # the first make what stays
    first, second = taken.values()
    print(f"seconds a step: {first:.3f} and {second:.3f} ({second / first:.3f} times)")
    return folder / "first", folder / "second"


ROOT = Path(__file__).resolve().parents[2]

TRAIN = """
import json, sys
from pathlib import Path
import hf_free
assert Path(hf_free.__file__).is_relative_to(Path.cwd()), hf_free.__file__
config = hf_free.FreeConfig.load(sys.argv[1], values=json.loads(sys.argv[2]))
hf_free.train(config, output=sys.argv[3], progress=False)
"""
"""What is run with each commit's files; the packages that they import are those of today."""


def run_commits(options: argparse.Namespace, folder: Path) -> tuple[Path, Path]:
    """Train with the files of each of two commits, in processes of their own; the folders of the runs."""
    runs = folder / "first", folder / "second"
    for commit, run in zip(options.commits, runs, strict=True):
        tree = folder / f"files of {run.name}"
        packed = subprocess.run(["git", "archive", commit], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(tree, filter="data")
        words = [str(options.config.resolve()), json.dumps(_length(options)), str(run)]
        environment = {**os.environ, "PYTHONPATH": str(tree)}
        subprocess.run([sys.executable, "-c", TRAIN, *words], cwd=tree, env=environment, check=True)
    return runs


def _length(options: argparse.Namespace) -> dict[str, dict[str, object]]:
    return {"trainer": {"steps": options.steps, "max_minutes": None}}


def main() -> int:
    """Compare, print what differs, and say by the exit code whether anything does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="*", metavar="RUN", help="two runs' folders or log files")
    parser.add_argument("--config", type=Path, help="configuration of both runs")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--commits", nargs=2, metavar=("FIRST", "SECOND"), help="of the repository these files lie in")
    parser.add_argument("--first", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--second", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--tolerance", type=float, default=0.0, help="relative difference that is none")
    options = parser.parse_args()
    if len(options.runs) != (0 if options.config else 2):
        parser.error("give two runs, or --config with --first, --second or --commits")
    with tempfile.TemporaryDirectory() as scratch:
        run = run_commits if options.commits else run_both
        first, second = run(options, Path(scratch)) if options.config else options.runs
        compared, found = compare(first, second, options.tolerance)
    for difference in found[:20]:
        print(f"step {difference.step}  {difference.name}: {difference.first} and {difference.second}")
    print(f"{compared - len(found)} of {compared} numbers are equal")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
