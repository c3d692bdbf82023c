"""Values of a record that somebody else's program may have written."""

from __future__ import annotations

import os

import pytest

from hf_free.errors import RunError
from hf_free.provenance.reading import (
    flag_of,
    list_of,
    number_of,
    object_of,
    read_saved,
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


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "\x00", "9" * 5000])
def test_a_damaged_file_is_refused_with_its_path_and_the_way_out(tmp_path, text):
    (tmp_path / "saved.json").write_text(text)
    with pytest.raises(RunError, match=r"saved\.json is not JSON[^$]*restore it"):
        read_saved(tmp_path / "saved.json", action="restore it")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "saved.json")
    with pytest.raises(RunError, match="not a regular file"):
        read_saved(tmp_path / "saved.json", action="")


def test_what_was_saved_is_read(tmp_path):
    (tmp_path / "saved.json").write_text('{"loss": NaN}')
    assert list(read_saved(tmp_path / "saved.json", action="")) == ["loss"]
