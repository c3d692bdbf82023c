"""The lines of a run's log, also where a kill, a disk or an editor has damaged some."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import NamedTuple

from hf_free.provenance.reading import Json

LONGEST_LINE = 2**20
"""Bytes of a line; a step's terms take less than a thousand."""


LARGEST = (2 - 2**-23) * 2.0**127
"""Largest finite number of 32 bits (IEEE 754 binary32)."""


class LogRows(NamedTuple):
    """What is in a log."""

    rows: list[Json]
    """In the order of the file."""
    damaged: int
    """Lines that are no row: no JSON object, or one with a value that is no number."""


def read_rows(path: Path) -> LogRows:
    """Read a log line by line; the beginning of a last row, which a kill cuts short, counts as nothing where there are
    others before it."""
    rows, damaged, is_cut = list[Json](), 0, False
    with path.open("rb") as file:
        while line := file.readline(LONGEST_LINE):
            row = _row(line) if line.endswith(b"\n") else None
            begun = line.startswith(b"{")
            while line and not line.endswith(b"\n"):  # the rest of one that is too long, which memory need not hold
                line = file.readline(LONGEST_LINE)
            is_cut = not line and begun
            damaged += row is None and not is_cut
            rows += [] if row is None else [row]
    return LogRows(rows, damaged + (is_cut and not rows))


def _row(line: bytes) -> Json | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # no UTF-8, no JSON, a number of thousands of digits, thousands of brackets
        return None
    if not isinstance(row, dict) or not all(map(_is_number, row.values())):
        return None
    return row if _is_step(row.get("step", 0)) else None


def _is_number(value: object) -> bool:
    """Whether training computes with such numbers, which are of 32 bits; losses can be NaN or infinite."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return not abs(value) > LARGEST or abs(value) == math.inf  # NaN is not larger


def _is_step(step: float) -> bool:
    return math.isfinite(step) and step == int(step) and 0 <= step < 2**53
