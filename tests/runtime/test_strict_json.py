"""JSON of strangers: regular files of bounded size, without two meanings."""

from __future__ import annotations

import os

import pytest

from hf_free.runtime.strict_json import read_strict_json

REFUSED = {
    "twice": ('{"a": 1, "a": 2}', "occurs twice"),
    "not a number": ('{"a": NaN}', "NaN"),
    "endless": ('{"a": 1e999}', "beyond every number"),
    "5,000 digits": ("9" * 5000, "5000 digits"),
    "deep": ("[" * 100_000, "nested too deeply"),
    "half a pair": ('"\\ud800"', "surrogates not allowed"),
    "large": (" " * 2000, "more than"),
    "no JSON": ("{", "Expecting"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_two_meanings_or_none_is_refused(name, tmp_path):
    text, problem = REFUSED[name]
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=problem):
        read_strict_json(tmp_path / "a.json", max_bytes=1000 if name == "large" else 10**6)


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(ValueError, match="not a regular file"):
        read_strict_json(tmp_path / "a.json", max_bytes=10)


def test_a_mark_at_the_start_is_passed_over(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf{}")
    assert read_strict_json(tmp_path / "a.json", max_bytes=10) == {}
