"""YAML in which a plain scalar stays what was written until its reader says what is meant.

YAML 1.1 makes a number of `1.10`, an octal number of `0012345`, a truth value of `yes`, `no`, `on` and `off`, a date
of `2026-01-01` and nothing of `null`. Where a text is meant (a branch, a class name, a folder) that loses what the
user wrote. So every unquoted scalar is read as `Written`; `meant` gives its value in the core schema of YAML 1.2
(https://yaml.org/spec/1.2.2/#103-core-schema), and a reader that wants a text takes it as the text it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
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

_TOO_DEEP = f"its values are nested more than {MOST_LEVELS} deep"

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

    def resolve(self, kind: object, value: object, implicit: tuple[bool, bool]) -> object:
        """The tag of a node that has none."""
        if kind is yaml.ScalarNode and implicit[0] and value != "<<":
            return _WRITTEN
        return super().resolve(kind, value, implicit)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """A mapping; YAML forbids a key twice, and PyYAML would silently take the last."""
        seen: dict[tuple[str, str], Any] = {}
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                first = seen.setdefault((key.tag, key.value), key)
                if first is not key:
                    here, problem = "while reading a mapping", f"the key {key.value} is there twice"
                    raise yaml.constructor.ConstructorError(here, first.start_mark, problem, key.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_constructor(_WRITTEN, lambda loader, node: Written(node.value))


def is_null(value: object) -> bool:
    """Whether a value of such a tree is nothing: `null`, `~`, or no word at all, unquoted."""
    return value is None or (isinstance(value, Written) and str(value) in _NULLS)


def read_written(text: str, *, most_values: int | None = None) -> object:
    """Read one YAML document; unquoted scalars, keys among them, are `Written`.

    Args:
        text: The document.
        most_values: Values that it may have, those that aliases stand for counted each time; None does not count.

    Raises:
        BeyondUseError: nested too deeply, too many values, or one that holds itself.
        yaml.YAMLError: no valid YAML, or a value that is not of the type that its tag says.
    """
    _check_extent(text, most_values)
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader with one constructor more, which makes texts
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # of a tag's constructor, as of !!int "x"
        raise yaml.YAMLError(f"a value is not of its tag's type: {str(error)[:200]}") from None


def _events(text: str) -> Iterator[yaml.Event]:
    """What the parser meets. PyYAML 6.0.4 reads ahead and ends by itself where brackets are too deep: in our words."""
    try:
        yield from yaml.parse(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        if "nesting depth" in str(error.problem):
            raise BeyondUseError(_TOO_DEEP) from None
        raise


def _check_extent(text: str, most_values: int | None) -> None:
    """Refuse what no configuration is, before it becomes values: libyaml ends the process at 200,000 brackets.

    Events come one after another, without recursion. An anchor weighs as much as what it stands for, so that a few
    lines which stand for billions of values are found without making them.
    """
    weights: dict[str, int | None] = {}  # by anchor; None while its value is not over
    opened: list[tuple[str | None, int]] = []
    weight = 0
    for event in _events(text):
        anchor = getattr(event, "anchor", None)
        if isinstance(event, yaml.AliasEvent):
            held = weights.get(anchor or "", 0)
            if held is None:
                raise BeyondUseError(f"it has values that hold themselves, by the name *{anchor}")
            weight += held
        elif isinstance(event, yaml.CollectionStartEvent):
            opened.append((anchor, weight))
            if anchor:
                weights[anchor] = None
            if len(opened) > MOST_LEVELS:
                raise BeyondUseError(_TOO_DEEP)
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
        if most_values is not None and weight > most_values:
            raise BeyondUseError(f"it has more than {most_values:,} values")


def meant(value: object) -> object:
    """A tree with the values of YAML 1.2 in place of what was written; keys become texts."""
    return _rebuilt(value, lambda written: written.value, lambda key: str(key) if isinstance(key, Written) else key)


def as_texts(value: object) -> Any:
    """A tree with the texts that were written, `null` and `yes` among them."""
    return _rebuilt(value, str, as_texts)


def _rebuilt(value: object, scalar: Callable[[Written], Any], of_key: Callable[[Any], Any]) -> Any:
    """A tree with other scalars. What anchors share stays shared: written out, a page of them fills any memory.

    Raises:
        yaml.YAMLError: a tree that holds itself, or is nested too deeply.
    """
    done: dict[int, object] = {}  # by the identity of what the whole call keeps alive

    def rebuild(part: object) -> object:
        if isinstance(part, Written):
            return scalar(part)
        if not isinstance(part, Mapping | list):
            return part
        if id(part) not in done:
            if isinstance(part, Mapping):
                done[id(part)] = {of_key(key): rebuild(item) for key, item in part.items()}
            else:
                done[id(part)] = [rebuild(item) for item in part]
        return done[id(part)]

    try:
        return rebuild(value)
    except RecursionError:
        raise yaml.YAMLError("its values are nested too deeply, or hold themselves") from None
