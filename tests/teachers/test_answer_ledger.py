"""Answers in a file that only grows: whole after a kill at any byte."""

from __future__ import annotations

import pytest

from hf_free.teachers.answer_ledger import AnswerLedger

ONE, TWO = (("cat, domestic", "0.75"), ("d\tog\n", "2.5e-01")), (("d\tog\n", "1.0"),)


@pytest.mark.parametrize("has_file", [True, False])
def test_what_was_kept_is_there_as_it_was_written(tmp_path, has_file):
    ledger = AnswerLedger(tmp_path / "answers" / "x.answers" if has_file else None)
    assert ledger.get("p1") is None
    ledger.count(3)
    ledger.keep("p1", ONE)
    ledger.count(-1)
    ledger.keep("p2", TWO)
    for _ in range(2):
        assert (ledger.get("p1"), ledger.get("p2"), ledger.get("p3")) == (ONE, TWO, None)
        assert (ledger.sent, len(ledger)) == (2, 2)
        if has_file:
            ledger.close()
            ledger = AnswerLedger(ledger.path)


def test_a_kill_at_any_byte_loses_the_line_under_way_at_most(tmp_path):
    path = tmp_path / "x.answers"
    ledger = AnswerLedger(path)
    ledger.count(1)
    ledger.keep("p1", ONE)
    safe = path.stat().st_size
    ledger.count(1)
    ledger.keep("p2", TWO)
    ledger.close()
    whole = path.read_bytes()
    for end in range(safe, len(whole)):
        path.write_bytes(whole[:end])
        found = AnswerLedger(path)
        assert found.get("p1") == ONE
        assert found.get("p2") is None
        found.keep("p3", (*ONE, ("new", "0")))
        found.close()
        again = AnswerLedger(path)
        assert again.get("p1") == ONE
        assert again.get("p3") == (*ONE, ("new", "0"))
        again.close()


def test_damage_inside_costs_one_answer_and_mixes_no_labels(tmp_path, caplog):
    path = tmp_path / "x.answers"
    ledger = AnswerLedger(path)
    ledger.keep("p1", ONE)
    ledger.close()
    lines = path.read_bytes().split(b"\n")
    damaged = [place for place, line in enumerate(lines) if line.startswith(b"L\t1")]
    lines[damaged[0]] = b'L\t1\t"wrong"' + lines[damaged[0]][-9:]
    path.write_bytes(b"\n".join(lines))
    found = AnswerLedger(path)
    assert "1 damaged line" in caplog.text
    assert found.get("p1") is None  # one of its labels is not known: asked again rather than misread
    found.keep("p2", (("new", "1"),))
    found.close()
    again = AnswerLedger(path)
    assert again.get("p1") is None
    assert again.get("p2") == (("new", "1"),)
