"""Teachers that a measurement needs and that are not there yet."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmark.store import locked, teacher_folders
from hf_free.errors import HfFreeError

MAKER = Path(__file__).parents[1] / "zoo" / "make_zoo.py"


def made_zoo(folder: Path, data: Sequence[Path], count: int, *options: str) -> list[str]:
    """Teachers of data sets' training classes, made where they are missing.

    Args:
        folder: Where they lie.
        data: Data sets; teachers are made from them in turn.
        count: How many in all.
        options: Further words for `examples/zoo/make_zoo.py`.

    Raises:
        HfFreeError: they cannot be made.
    """
    command = [sys.executable, str(MAKER), "--output", str(folder), "--tasks", str(count), *options]
    command += ["--data", *map(str, data)]
    with locked(folder):
        done = subprocess.run(command, check=False, stdout=sys.stderr)
    if done.returncode:
        named = ", ".join(path.name for path in data)
        raise HfFreeError(f"make_zoo.py failed for {named}", action="see its message above")
    return teacher_folders(folder, count)
