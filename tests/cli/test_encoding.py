"""Terminals that cannot show every letter."""

from __future__ import annotations

import io
import json
import sys

import pytest

from hf_free.cli.console import output_console, write_json
from hf_free.cli.encoding import can_write, speak_plainly


def _stream(encoding):
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict", newline="")


def _written(stream):
    stream.flush()
    return stream.buffer.getvalue().decode(stream.encoding)


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("utf-8", "12 ± 3 × 4 … café \U0001f600"),
        ("ascii", "12 +- 3 x 4 ... caf\\xe9 \\U0001f600"),
        ("cp1252", "12 ± 3 × 4 … café \\U0001f600"),
    ],
)
def test_what_an_encoding_lacks_becomes_near_signs_or_numbers(encoding, written):
    stream = _stream(encoding)
    speak_plainly(stream)
    stream.write("12 ± 3 × 4 … café \U0001f600")
    assert _written(stream) == written


def test_the_name_of_a_file_that_is_no_text_is_written_all_the_same():
    stream = _stream("utf-8")
    speak_plainly(stream)
    stream.write("\udcff.png")
    assert _written(stream) == "\\udcff.png"


def test_a_stream_that_cannot_be_changed_is_left_alone():
    stream = io.StringIO()
    speak_plainly(stream)
    assert can_write(stream, "é")
    assert not can_write(_stream("ascii"), "é")


def test_json_stays_json_and_tables_are_drawn_in_ascii(monkeypatch):
    stream = _stream("ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    speak_plainly(stream)
    write_json({"café ±": "\U0001f600"})
    assert json.loads(_written(stream)) == {"café ±": "\U0001f600"}
    output_console().print("±", markup=False)
    assert _written(stream).endswith("+-\n")
