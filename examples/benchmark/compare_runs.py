"""Compare two runs step by step: two logs, or one command with two settings; not equal is exit code 1.

    python examples/benchmark compare-runs runs/a runs/b
    python examples/benchmark compare-runs --config run.yaml --steps 20 \\
        --first trainer.threads=1 --second trainer.threads=2

Two commits: train with one, then with the other, and give both folders. Losses have to be equal to the last digit of
the log (six decimals) unless --tolerance allows a relative difference. Times are not compared.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hf_free import FreeConfig, train
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
    """Train with each of the two settings; the folders of the runs."""
    values = {"trainer": {"steps": options.steps, "max_minutes": None}}
    for name, settings in (("first", options.first), ("second", options.second)):
        config = FreeConfig.load(options.config, values=values, assignments=settings)
        train(config, output=folder / name, progress=False)
    return folder / "first", folder / "second"


def main() -> int:
    """Compare, print what differs, and say by the exit code whether anything does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="*", metavar="RUN", help="two runs' folders or log files")
    parser.add_argument("--config", type=Path, help="configuration of both runs")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--first", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--second", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--tolerance", type=float, default=0.0, help="relative difference that is none")
    options = parser.parse_args()
    if len(options.runs) != (0 if options.config else 2):
        parser.error("give two runs, or --config with --first and --second")
    with tempfile.TemporaryDirectory() as scratch:
        first, second = run_both(options, Path(scratch)) if options.config else options.runs
        compared, found = compare(first, second, options.tolerance)
    for difference in found[:20]:
        print(f"step {difference.step}  {difference.name}: {difference.first} and {difference.second}")
    print(f"{compared - len(found)} of {compared} numbers are equal")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
