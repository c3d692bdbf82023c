"""Entries for teachers in a learner's record."""

from __future__ import annotations

import json

from records import teacher

from hf_free.provenance.recorded_teacher import LeftOut, RecordedTeacher
from hf_free.provenance.teacher_record import TeacherRecord


def test_an_entry_keeps_what_it_came_with_and_gives_the_loaded_record_back():
    entry = json.loads(json.dumps(teacher("lab/a", of_a_later_version=[1])))
    read = RecordedTeacher.from_dict(entry)
    assert read.to_dict() == entry
    assert read.as_loaded() == TeacherRecord.from_dict(entry)
    assert RecordedTeacher.of(read.as_loaded()) == read


def test_an_entry_that_lacks_something_has_no_loaded_record():
    entry = teacher("lab/a")
    del entry["input_size"]
    assert RecordedTeacher.from_dict(entry).as_loaded() is None
    assert RecordedTeacher.from_dict({}).as_loaded() is None


def test_what_was_left_out_is_written_as_it_was_read():
    for entry in ({"reference": "lab/a", "reason": "gone"}, {"reference": "lab/b", "reason": "slow", "asked": True}):
        assert LeftOut.from_dict(entry).to_dict() == entry


def test_a_black_box_has_no_parameters_that_are_known():
    entry = teacher("lab/a", answers_only=True, parameters=0)
    read = RecordedTeacher.from_dict(entry)
    assert read.parameters is None
    assert read.to_dict() == entry
    assert read.as_loaded() == TeacherRecord.from_dict(entry)
