"""Logs with damaged lines are read: what is no row is left out and counted."""

from __future__ import annotations

import json
import tracemalloc

import pytest

from hf_free.training.log_reading import LONGEST_LINE, read_rows

GOOD = {"step": 3, "answers": 0.5, "minutes": 0.1}


def _read(path, *lines, end=b"\n"):
    path.write_bytes(b"\n".join(lines) + end)
    return read_rows(path)


def test_all_rows_of_a_whole_log_are_read(tmp_path):
    line = json.dumps({**GOOD, "distillation": float("nan"), "teachers": float("inf")}).encode()
    found = _read(tmp_path / "log", line, line)
    assert [row["step"] for row in found.rows] == [3, 3]
    assert found.damaged == 0


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b'{"step": 2, "answ',
        b"\xff\xfe\x00",
        b"[1, 2]",
        b"null",
        b'{"step": "two"}',
        b'{"step": 2, "answers": {"a": 1}}',
        b'{"step": null}',
        b'{"step": ' + b"9" * 5000 + b"}",
        b'{"step": ' + b"9" * 400 + b"}",
        b'{"step": 1e400, "answers": 1}',
        b'{"step": -1}',
        b'{"step": 1.5}',
        b'{"step": NaN}',
        b'{"step": 4, "answers": -1e308}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b" " * LONGEST_LINE + b"{}",
    ],
    ids=lambda line: f"{line[:12]!r}x{len(line)}",
)
def test_a_damaged_line_is_left_out_and_counted(tmp_path, line):
    good = json.dumps(GOOD).encode()
    found = _read(tmp_path / "log", good, line, good)
    assert found.rows == [GOOD, GOOD]
    assert found.damaged == 1


def test_a_last_line_that_a_kill_cut_short_is_nothing(tmp_path):
    found = _read(tmp_path / "log", json.dumps(GOOD).encode(), b'{"step": 4', end=b"")
    assert found == ([GOOD], 0)
    assert _read(tmp_path / "log", json.dumps(GOOD).encode(), bytes(9), end=b"") == ([GOOD], 1), "zeros are no row"


def test_a_line_without_an_end_takes_no_memory(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 1}\n')
    with path.open("ab") as file:
        file.truncate(2**28)  # zeros
        file.seek(0, 2)
        file.write(b'\n{"step": 2}\n{"st')
    tracemalloc.start()
    read = read_rows(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert read == ([{"step": 1}, {"step": 2}], 1)
    assert peak < 2**24


def test_a_log_that_ends_in_its_first_row_is_not_taken_for_an_empty_one(tmp_path):
    assert _read(tmp_path / "log", b'{"step": 1, "answ', end=b"") == ([], 1)
    assert _read(tmp_path / "log", b"", end=b"") == ([], 0)
