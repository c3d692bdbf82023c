"""Values of a record that somebody else's program may have written."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from hf_free.provenance.reading import (
    check_types,
    flag_of,
    list_of,
    number_of,
    object_of,
    text_of,
    texts_of,
    whole_of,
)


@pytest.mark.parametrize("value", [None, "text", 3, [1], True, float("nan")])
def test_what_is_no_object_is_empty(value):
    assert object_of(value) == {}


def test_keys_become_texts():
    assert object_of({1: "a", "b": 2}) == {"1": "a", "b": 2}


@pytest.mark.parametrize(
    ("value", "number", "whole", "flag"),
    [
        (3, 3, 3, None),
        (2.5, 2.5, None, None),
        (True, None, None, True),
        (False, None, None, False),
        (float("inf"), None, None, None),
        (float("nan"), None, None, None),
        ("3", None, None, None),
        (None, None, None, None),
        (10**400, None, 10**400, None),
    ],
    ids=lambda value: str(value)[:9],
)
def test_numbers_and_flags(value, number, whole, flag):
    assert (number_of(value), whole_of(value), flag_of(value)) == (number, whole, flag)


def test_lists_and_texts():
    assert list_of((1, 2)) == [1, 2]
    assert list_of("ab") == list_of(None) == list_of({"a": 1}) == []
    assert texts_of(["a", 1]) == ("a", "1")
    assert (text_of(None), text_of(""), text_of(7), text_of("x")) == ("", "", "7", "x")


@dataclass
class _Record:
    name: str
    share: float | None = None
    sizes: tuple[int, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    notes: list[dict[str, str]] = field(default_factory=list)
    shape: tuple[int, int, int] = (1, 1, 1)
    shown: bool = False


@pytest.mark.parametrize(
    "values",
    [
        {"name": "a", "share": None, "sizes": (1, 2), "counts": {"a": 1}, "notes": [{"a": "b"}], "shown": True},
        {"name": "a", "share": 1, "sizes": (), "counts": {}, "notes": [], "later": object()},
    ],
)
def test_values_of_the_declared_types_pass(values):
    check_types(_Record, values)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", None),
        ("share", "x"),
        ("share", True),
        ("sizes", [1]),
        ("sizes", (1, "x")),
        ("counts", {"a": "b"}),
        ("counts", {1: 1}),
        ("notes", [{"a": 1}]),
        ("notes", {}),
        ("shape", (1, 1)),
        ("shown", 1),
    ],
)
def test_a_value_of_another_type_is_named(key, value):
    with pytest.raises(TypeError, match=f"{key} is "):
        check_types(_Record, {"name": "a", key: value})
