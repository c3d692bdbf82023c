"""A record that somebody has tampered with or a strange program has written, in the form that readers count on.

A value of a kind that a record never holds is replaced by nothing: a record is only shown to people, so a broken one
is no reason to refuse the learner. An intact record stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_free.provenance.reading import Json, list_of, number_of, object_of

MOST_LEVELS = 24
"""Levels of nesting that are kept; a record has seven."""

_OBJECTS = ("config", "learner", "recovered", "training", "versions", "licenses", "left_out")
_LISTS = ("teachers", "skipped", "results")
_SECTIONS = ("five", "memory", "bell", "learner", "trainer", "hub")
_MEASURED = ("teacher_accuracy", "diversity")


def mended(block: Mapping[str, object]) -> Json:
    """A deep copy of a record, without values that no record holds.

    Values deeper than `MOST_LEVELS` and whole numbers beyond 64 bits become null, halves of surrogate pairs question
    marks; lists and objects that are neither become empty.

    Args:
        block: The `hf_free` block of config.json; every key may be missing.
    """
    found = object_of(_bounded(block, MOST_LEVELS))
    for key in _OBJECTS:
        if found.get(key) is not None:
            found[key] = object_of(found[key])
    for key in _LISTS:
        if found.get(key) is not None:
            found[key] = [object_of(entry) for entry in list_of(found[key])]
    for report in found.get("results") or []:
        _mend_report(report)
    config = found.get("config") or {}
    for key in _SECTIONS:
        if config.get(key) is not None:
            config[key] = object_of(config[key])
    for key in _MEASURED:
        if key in (recovered := found.get("recovered") or {}) and number_of(recovered[key]) is None:
            del recovered[key]
    if found.get("left_out"):
        found["left_out"] = {why: count for why, count in found["left_out"].items() if number_of(count) is not None}
    return found


def _mend_report(report: Json) -> None:
    for key in ("rows", "warnings"):
        if report.get(key) is not None:
            report[key] = list_of(report[key])
    report["rows"] = [object_of(row) for row in report.get("rows") or []]


def _bounded(value: object, levels: int) -> Any:
    if isinstance(value, Mapping):
        return {_text(str(key)): _bounded(inner, levels - 1) for key, inner in value.items()} if levels else None
    if isinstance(value, (list, tuple)):
        return [_bounded(inner, levels - 1) for inner in value] if levels else None
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return None
    return value


def _text(value: str) -> str:
    return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
