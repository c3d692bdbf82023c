"""A stranger's JSON: plain values come back, and whatever has two meanings is refused."""

from __future__ import annotations

import os

import pytest

from hf_free.runtime.strict_json import read_strict_json


def read(folder, data, most=1000):
    (folder / "file.json").write_bytes(data)
    return read_strict_json(folder / "file.json", max_bytes=most)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a": [1, -2.5, null, true, "\xc3\xa9"]}', {"a": [1, -2.5, None, True, "é"]}),
        (b'\xef\xbb\xbf"text"', "text"),
        (b"9223372036854775807", 2**63 - 1),
    ],
)
def test_plain_values_come_back(tmp_path, data, value):
    assert read(tmp_path, data) == value


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' occurs twice"),
        (b"[NaN]", "NaN, which is no JSON"),
        (b"1e999", "1e999, which is beyond every number"),
        (b"9223372036854775808", "a whole number of 19 digits"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[" * 65 + b"]" * 65, "nested too deeply"),
        (b'"\\ud800"', "a text that is no Unicode"),
        (b"{'a': 1}", "no JSON from line 1, column 2 on"),
        (b"", "no JSON from line 1, column 1 on"),
        (b'{"a": "\xff"}', "no text in UTF-8 from byte 7 on"),
        (b'"' + b"a" * 2**17 + b'"', "more than 131072 bytes"),
    ],
)
def test_what_has_two_meanings_or_none_is_refused(tmp_path, data, reason):
    with pytest.raises(ValueError, match=reason):
        read(tmp_path, data, most=2**17)


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for ever
    for name in ("pipe", "."):
        with pytest.raises(ValueError, match="not a regular file"):
            read_strict_json(tmp_path / name, max_bytes=10)
    with pytest.raises(FileNotFoundError):
        read_strict_json(tmp_path / "none", max_bytes=10)
    (tmp_path / "file.json").write_text("1")
    (tmp_path / "link").symlink_to("file.json")
    assert read_strict_json(tmp_path / "link", max_bytes=10) == 1
