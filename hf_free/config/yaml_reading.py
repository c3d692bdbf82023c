"""YAML in which a plain scalar stays what was written until its reader says what is meant.

YAML 1.1 makes a number of `1.10`, an octal number of `0012345`, a truth value of `yes`, `no`, `on` and `off`, a date
of `2026-01-01` and nothing of `null`. Where a text is meant (a branch, a class name, a folder) that loses what the
user wrote. So every unquoted scalar is read as `Written`; `meant` gives its value in the core schema of YAML 1.2
(https://yaml.org/spec/1.2.2/#103-core-schema), and a reader that wants a text takes it as the text it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9][0-9_]{0,300}")  # Python refuses to read thousands of digits
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?")
_NAMED_FLOAT = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_BASES = ((re.compile(r"0x[0-9a-fA-F]{1,64}"), 16), (re.compile(r"0o[0-7]{1,64}"), 8))
_WRITTEN, _MERGE = "!written", "tag:yaml.org,2002:merge"
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is ten times as fast, and in every wheel


MOST_LEVELS = 32
"""Levels of nesting; a configuration has three, a list of teachers two."""

MOST_VALUES = 2_000_000
"""Values, those that aliases stand for counted each time; a list of 100,000 teachers with settings has less."""


class BeyondUseError(yaml.YAMLError):
    """YAML that may be valid and is nobody's configuration."""


class Written(str):
    """An unquoted scalar, as it was written."""

    @property
    def value(self) -> str | int | float | bool | None:
        """What YAML 1.2 makes of it; a text where it is none of null, a truth value and a number."""
        text = str(self)
        if text in _NULLS:
            return None
        if text in _BOOLS:
            return _BOOLS[text]
        if text[0] not in "+-.0123456789":
            return text
        if _INT.fullmatch(text):
            return int(text.replace("_", ""))
        for pattern, base in _BASES:
            if pattern.fullmatch(text):
                return int(text, base)
        if match := _NAMED_FLOAT.fullmatch(text):
            return float(f"{match[1] or ''}inf") if match[2] else float("nan")
        return float(text.replace("_", "")) if _FLOAT.fullmatch(text) else text


class _Loader(_LOADER):
    """A safe loader that leaves unquoted scalars alone; `<<` still merges, and explicit tags are obeyed."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        """The tag of a node that has none."""
        if kind is yaml.ScalarNode and implicit[0] and value != "<<":
            return _WRITTEN
        return super().resolve(kind, value, implicit)


_Loader.add_constructor(_WRITTEN, lambda loader, node: Written(node.value))


def is_null(value: Any) -> bool:
    """Whether a value of such a tree is nothing: `null`, `~`, or no word at all, unquoted."""
    return value is None or (isinstance(value, Written) and str(value) in _NULLS)


def read_written(text: str) -> Any:
    """Read one YAML document; unquoted scalars, keys among them, are `Written`.

    Raises:
        BeyondUseError: nested too deeply, too many values, or one that holds itself.
        yaml.YAMLError: no valid YAML, or a value that is not of the type that its tag says.
    """
    _check_extent(text)
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader with one constructor more, which makes texts
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # of a tag's constructor, as of !!int "x"
        raise yaml.YAMLError(f"a value is not of its tag's type: {str(error)[:200]}") from None


def _check_extent(text: str) -> None:
    """Refuse what no configuration is, before it becomes values: libyaml ends the process at 200,000 brackets.

    Events come one after another, without recursion. An anchor weighs as much as what it stands for, so that a few
    lines which stand for billions of values are found without making them.
    """
    weights: dict[str, int | None] = {}  # by anchor; None while its value is not over
    opened: list[tuple[str | None, int]] = []
    weight = 0
    for event in yaml.parse(text, Loader=_LOADER):
        anchor = getattr(event, "anchor", None)
        if isinstance(event, yaml.AliasEvent):
            held = weights.get(anchor or "", 0)
            if held is None:
                raise BeyondUseError(f"*{anchor} stands inside the value that it is the name of")
            weight += held
        elif isinstance(event, yaml.CollectionStartEvent):
            opened.append((anchor, weight))
            if anchor:
                weights[anchor] = None
            if len(opened) > MOST_LEVELS:
                raise BeyondUseError(f"its values are nested more than {MOST_LEVELS} deep")
            weight = 1
        elif isinstance(event, yaml.CollectionEndEvent):
            name, before = opened.pop()
            if name:
                weights[name] = weight
            weight += before
        elif isinstance(event, yaml.ScalarEvent):
            weight += 1
            if anchor:
                weights[anchor] = 1
        if weight > MOST_VALUES:
            raise BeyondUseError(f"it has more than {MOST_VALUES:,} values")


def meant(value: Any) -> Any:
    """A tree with the values of YAML 1.2 in place of what was written; keys become texts."""
    if isinstance(value, Written):
        return value.value
    if isinstance(value, Mapping):
        return {str(key) if isinstance(key, Written) else key: meant(item) for key, item in value.items()}
    return [meant(item) for item in value] if isinstance(value, list) else value


def as_texts(value: Any) -> Any:
    """A tree with the texts that were written, `null` and `yes` among them."""
    if isinstance(value, Written):
        return str(value)
    if isinstance(value, Mapping):
        return {as_texts(key): as_texts(item) for key, item in value.items()}
    return [as_texts(item) for item in value] if isinstance(value, list) else value
