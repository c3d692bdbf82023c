"""Seconds to name the teachers of YAML lists of growing length, and how they grow.

    python examples/benchmark listing

Nothing is loaded and no Hub is asked: this is what every verb does first with `--models teachers.yaml`. A list that is
read once takes ten times as long for ten times as many entries; one that is read for each entry a hundred times.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from hf_free.teachers.listing import resolve

ENTRY = """- name: teacher{i}
  id: org/teacher{i}
  revision: v1.{i}
  classes: 0-4
  mean: [0.5, 0.5, 0.5]
  label_names: [ant, bee, cat, dog, elk]
"""


def main() -> None:
    """Print a row a length."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, nargs="+", default=[100, 400, 1_000, 4_000])
    parser.add_argument("--repeats", type=int, default=5, help="the fastest of so many is shown")
    options = parser.parse_args()
    print(f"{'entries':>8}{'the list':>12}{'its entries':>14}{'ms an entry':>14}{'x seconds':>12}{'x entries':>12}")
    first = None
    for count in options.entries:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "teachers.yaml"
            path.write_text("".join(ENTRY.format(i=i) for i in range(count)), encoding="utf-8")
            whole = min(seconds([str(path)], count) for _ in range(options.repeats))
            single = min(seconds([f"{path}#teacher{i}" for i in range(count)], count) for _ in range(options.repeats))
        first = first or (count, whole)
        growth = f"{whole / first[1]:12.1f}{count / first[0]:12.1f}"
        print(f"{count:8d}{whole:10.3f} s{single:12.3f} s{1e3 * whole / count:14.3f}{growth}", flush=True)


def seconds(texts: list[str], expected: int) -> float:
    """Seconds to resolve the texts."""
    started = time.perf_counter()
    found = resolve(texts)
    taken = time.perf_counter() - started
    assert len(found) == expected
    return taken


if __name__ == "__main__":
    main()
