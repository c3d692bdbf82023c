"""Lenient reading of records, which an older or a foreign program may have written: a wrong kind counts as missing.

A learner is rebuilt from values that `hf_free.learner.config_check` reads strictly. What is only shown to people is no
reason to refuse a learner.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from numbers import Integral, Real
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

Json = dict[str, Any]
"""A JSON object."""

JsonView = Mapping[str, Any]
"""A JSON object that is only read."""


def check_types(record: type, values: JsonView) -> None:
    """Refuse values that are not of the types that a dataclass declares for them; keys that it lacks are passed over.

    Args:
        record: A dataclass of texts, numbers, and lists, tuples and mappings of them.
        values: What its fields are to hold.

    Raises:
        TypeError: names the first such field.
    """
    declared = get_type_hints(record)
    for key, value in values.items():
        if key in declared and not _is_of(value, declared[key]):
            shown = repr(value)
            raise TypeError(f"{key} is {shown if len(shown) <= 80 else shown[:80] + '...'}")


def _is_of(value: object, declared: Any) -> bool:
    kind, inner = get_origin(declared), get_args(declared)
    if kind in (UnionType, Union):
        return any(_is_of(value, one) for one in inner)
    if kind is None:
        if isinstance(value, bool):
            return declared is bool
        return isinstance(value, Real if declared is float else declared)
    if not isinstance(value, kind):
        return False
    if isinstance(value, dict):
        return all(_is_of(key, inner[0]) and _is_of(one, inner[1]) for key, one in value.items())
    if kind is tuple and inner[-1] is not Ellipsis:
        return len(value) == len(inner) and all(map(_is_of, value, inner))
    return all(_is_of(one, inner[0]) for one in value)


def text_of(value: object) -> str:
    """A text; empty where there is none."""
    return str(value) if value else ""


def object_of(value: object) -> Json:
    """A JSON object; empty where there is none."""
    return {str(key): inner for key, inner in value.items()} if isinstance(value, Mapping) else {}


def list_of(value: object) -> list[Any]:
    """A list; empty where there is none."""
    return list(value) if isinstance(value, list | tuple) else []


def texts_of(value: object) -> tuple[str, ...]:
    """A list of texts; empty where there is none."""
    return tuple(map(str, list_of(value)))


def number_of(value: object) -> float | None:
    """A number as it was written, not larger than a float can be; None where there is none."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return None
    number: Any = value if isinstance(value, Integral) else float(value)  # numpy's short floats do not compare
    largest = sys.float_info.max  # a whole number of 400 digits has no float
    return number if -largest <= number <= largest else None


def whole_of(value: object) -> int | None:
    """A whole number; None where there is none."""
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else None


def flag_of(value: object) -> bool | None:
    """True or False; None where neither is said."""
    return value if isinstance(value, bool) else None
