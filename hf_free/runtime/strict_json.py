"""Reading a JSON file that a stranger may have written: bounded, regular, and without two meanings."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any


def read_strict_json(path: Path, *, max_bytes: int) -> Any:
    """Read a JSON file; a byte order mark at its start is passed over.

    Args:
        path: The file; a link to a regular file is one.
        max_bytes: Its greatest size. Parsing takes many times as much memory.

    Raises:
        FileNotFoundError: no such file.
        OSError: one that may not be read.
        ValueError: something else than a regular file, too large, no UTF-8, no JSON, a key twice in one object, NaN,
            an infinity, a number beyond 64 bits, a text that is no Unicode, or objects nested too deeply.
    """
    if not path.is_file():
        if path.exists():
            raise ValueError("it is not a regular file")
        raise FileNotFoundError(path)
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ValueError(f"it has more than {max_bytes} bytes")
    try:
        value = json.loads(
            data.decode("utf-8-sig"),
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_int=_whole,
            parse_float=_real,
        )
        json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair could never be written again
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None
    return value


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:80]!r} occurs twice in one object")
    return found


def _constant(name: str) -> float:
    raise ValueError(f"it holds {name}, which is no JSON")


def _whole(digits: str) -> int:
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**63:
        raise ValueError(f"it holds a whole number of {len(digits)} digits")
    return int(digits)


def _real(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise ValueError(f"it holds {digits[:40]}, which is beyond every number")
    return value
