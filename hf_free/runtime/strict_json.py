"""Reading a JSON file that a stranger may have written: bounded, regular, and without two meanings."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from hf_free.runtime.files import read_bounded

MAX_DEPTH = 64
"""Objects and lists within one another; a learner's own config.json has 8."""

MAX_VALUES = 2**20
"""Values of one file at most. An empty object of two characters takes 72 bytes, so that 8 MiB of them took 231 MiB
parsed. A hundred teachers of 1,000 classes with names and descriptions are 0.2 million values."""


def why_too_large(text: bytes, max_bytes: int) -> str | None:
    """Why a JSON file is refused for its size, before it is parsed; None where it is not.

    Values are counted by commas and opening brackets, those within texts included.
    """
    if len(text) > max_bytes:
        return f"it has more than {max_bytes} bytes"
    if sum(map(text.count, (b",", b"[", b"{"))) > MAX_VALUES:
        return f"it has more than {MAX_VALUES} values, by its commas and brackets"
    return None


def why_no_json(error: OSError | ValueError) -> str:
    """Why a JSON file cannot be read, in our words: a library's name offsets and codecs."""
    if isinstance(error, json.JSONDecodeError):
        return f"it is no JSON from line {error.lineno}, column {error.colno} on"
    if isinstance(error, UnicodeDecodeError):
        return f"it is no text in UTF-8 from byte {error.start} on"
    if isinstance(error, UnicodeEncodeError):
        return "it holds a text that is no Unicode"
    if "integer string conversion" in str(error):  # Python's, of json.loads
        return "it holds a whole number of thousands of digits"
    return str(getattr(error, "strerror", None) or error)


def read_strict_json(path: Path, *, max_bytes: int) -> Any:
    """Read a JSON file; a byte order mark at its start is passed over.

    Args:
        path: The file; a link to a regular file is one.
        max_bytes: Its greatest size, beside `MAX_VALUES`. Parsing takes many times as much memory.

    Raises:
        FileNotFoundError: no such file.
        OSError: one that may not be read.
        ValueError: something else than a regular file, too large, no UTF-8, no JSON, a key twice in one object, NaN,
            an infinity, a number beyond 64 bits, a text that is no Unicode, or objects nested too deeply.
    """
    data = read_bounded(path, max_bytes=max_bytes)
    if (reason := why_too_large(data, max_bytes)) is not None:
        raise ValueError(reason)
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
    except (json.JSONDecodeError, UnicodeError) as error:
        raise ValueError(why_no_json(error)) from None
    _check_depth(value)
    return value


def _check_depth(value: object) -> None:
    """Refuse what would exhaust the stack of whoever walks through it."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inner = [part.values() if isinstance(part, dict) else part for part in level if isinstance(part, dict | list)]
        level = [part for parts in inner for part in parts]
        if not level:
            return
    raise ValueError("its values are nested too deeply")


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
