"""How long `hf-free --help` and `hf-free train --help` take: processor time and wall clock, the median of some calls.

    python examples/benchmark help-time

Both are to stay below 0.7 s on an idle machine: somebody waits for them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time


def spent(words: list[str]) -> tuple[float, float]:
    """Processor time and wall clock of one call, in seconds."""
    before, start = os.times(), time.perf_counter()
    subprocess.run([sys.executable, "-m", "hf_free.cli.main", *words], stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return used, time.perf_counter() - start


def main() -> None:
    """Print a line for each command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=9, help="Calls of each command.")
    calls = parser.parse_args().calls
    for words in (["--help"], ["train", "--help"]):
        taken = [spent(words) for _ in range(calls)]
        used, waited = (statistics.median(column) for column in zip(*taken, strict=True))
        print(f"hf-free {' '.join(words):<14} {used:.2f} s of processor time, {waited:.2f} s")


if __name__ == "__main__":
    main()
