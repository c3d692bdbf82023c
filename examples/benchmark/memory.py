"""Memory and time of a run as its plan predicts them, against those it takes, over picture sizes and backbones.

Each cell is two processes of its own: what `hf_free.training.plan.plan` measures, and a run of a few steps whose peak
the system keeps. Time is compared twice: by the wall clock, which other programs change between the two, and as
processor time of one thread.

python examples/benchmark memory --models zoo/a zoo/b zoo/c zoo/d --output memory.json
python examples/benchmark memory --models ... --sizes 224 --backbones resnet18 --memory 3GiB
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from hf_free import FreeConfig, train
from hf_free.config.reading import merge
from hf_free.config.tree import parse_assignments
from hf_free.errors import RunError
from hf_free.training.setup import assemble, budget_of, gather

SIZES = (32, 84, 224)
BACKBONES = ("conv4_64", "resnet12_small", "resnet18", "mobilenetv3_small_100")
SETTINGS = (
    "five.images_per_class=5 five.teachers_per_step=4 memory.drawn_per_step=64 bell.batch_size=64 "
    "bell.updates_per_step=3"
)
"""A step that takes seconds, not minutes, at 224 pixels."""

STEPS = 2
"""Of a run; the first counts for memory only, since it makes what the others find made."""

KIB = 1 if sys.platform == "darwin" else 1024
"""Bytes of a unit of `ru_maxrss`."""


def main() -> None:
    """Measure every cell and print a table."""
    options = _options()
    if options.part:
        print(json.dumps(_predicted(options) if options.part == "predicted" else _measured(options)))
        return
    rows = []
    for backbone in options.backbones:
        for size in options.sizes:
            rows.append({"backbone": backbone, "size": size, **_cell(backbone, size)})
            print(_line(rows[-1]), flush=True)
            if options.output is not None:
                options.output.write_text(json.dumps(rows, indent=2), encoding="utf-8")
    for key in ("bytes", "computed", "seconds"):
        ratios = [row["predicted"][key] / row["measured"][key] for row in rows if "refused" not in row["predicted"]]
        if ratios:
            print(f"predicted / measured {key}: {min(ratios):.2f} to {max(ratios):.2f}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", required=True, help="teachers")
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    parser.add_argument("--backbones", nargs="+", default=BACKBONES)
    parser.add_argument("--settings", default=SETTINGS, help="as --set of hf-free train")
    parser.add_argument("--memory", help="as --memory of hf-free train")
    parser.add_argument("--output", type=Path, help="JSON file")
    parser.add_argument("--part", choices=("predicted", "measured"), help=argparse.SUPPRESS)
    return parser.parse_args()


def _cell(backbone: str, size: int) -> dict[str, Any]:
    """Prediction and measurement, each in a process of its own."""
    command = [sys.executable, __file__, *sys.argv[1:], "--backbones", backbone, "--sizes", str(size), "--part"]
    found = {}
    for part in ("predicted", "measured"):
        if "refused" in found.get("predicted", {}):
            break
        done = subprocess.run([*command, part], stdout=subprocess.PIPE, check=True, text=True)
        found[part] = json.loads(done.stdout.splitlines()[-1])
    return found


def _config(options: argparse.Namespace) -> FreeConfig:
    values = {
        "models": options.models,
        "five": {"recover_share": 1.0, "min_teacher_accuracy": 0.0, "min_diversity": 0.0},
        "learner": {"backbone": options.backbones[0], "image_size": options.sizes[0]},
        "trainer": {"steps": STEPS, "warmup_steps": 0, "memory": options.memory, "picture_every": 1000},
    }
    return FreeConfig.from_dict(merge(values, parse_assignments(options.settings.split())))


def _predicted(options: argparse.Namespace) -> dict[str, Any]:
    start = time.perf_counter()
    parts = assemble(gather(_config(options), is_planned=True))
    try:
        budget = budget_of(parts, refuse=False)
    except RunError as error:
        return {"refused": str(error), "took": time.perf_counter() - start}
    found = budget.forecast
    return {
        "bytes": found.peak_bytes,
        "seconds": found.step_seconds,
        "computed": found.step_seconds / found.slowdown,
        "took": time.perf_counter() - start,
        "notes": budget.notes,
    }


def _measured(options: argparse.Namespace) -> dict[str, Any]:
    times, computed = [0.0], [0.0]

    def watch(_: object, minutes: float) -> None:
        times.append(60 * minutes)
        computed.append(time.process_time())

    with tempfile.TemporaryDirectory() as folder:
        train(_config(options), output=Path(folder) / "run", watch=watch)
    steps = [[after - before for before, after in pairwise(clock)] for clock in (times, computed)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB
    seconds, processor = (median(clock[1:]) for clock in steps)
    return {"bytes": peak, "seconds": seconds, "computed": processor, "steps": steps[0]}


def _line(row: dict[str, Any]) -> str:
    predicted = row["predicted"]
    if "refused" in predicted:
        return f"{row['backbone']} at {row['size']} | refused after {predicted['took']:.0f} s: {predicted['refused']}"
    cells = [f"{row['backbone']} at {row['size']}"]
    for key, unit, name in (("bytes", 1e9, "GB"), ("computed", 1, "s computed a step"), ("seconds", 1, "s a step")):
        given, taken = predicted[key] / unit, row["measured"][key] / unit
        cells.append(f"{given:.2f} against {taken:.2f} {name} ({given / taken:.2f})")
    return " | ".join([*cells, f"planned in {predicted['took']:.0f} s", *predicted["notes"]])


if __name__ == "__main__":
    main()
