"""What a run says of itself, written and read back."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace

import pytest

from hf_free.provenance.learner_record import LearnerRecord
from hf_free.provenance.recorded_teacher import LeftOut, RecordedTeacher
from hf_free.provenance.run_record import (
    Energy,
    KnownTeachers,
    MethodFacts,
    PoolRecord,
    Recovered,
    RunRecord,
    Training,
)

RECORD = RunRecord(
    config={"method": "paper", "seed": 3},
    known=KnownTeachers(
        teachers=tuple(RecordedTeacher.from_dict({"reference": name}) for name in ("lab/a", "lab/b")),
        answer_outputs=(None, (0, 2)),
    ),
    skipped=[LeftOut("lab/c", "gone")],
    left_out={"dull": 2},
    licenses={"mit": 2},
    method=MethodFacts(name="paper", title="FREE", paper="Wei et al.", url="https://x.org", departures=("mended",)),
    recovered=Recovered(tasks=4, images=80, teacher_accuracy=0.925, diversity=0.31),
    training=Training(minutes=1.5, steps=100, best_step=90, chosen_on="held-out", device="cpu", threads=2),
    versions={"hf_free": "0.1.0"},
)


def test_a_record_is_read_back_as_it_was_written():
    block = json.loads(json.dumps(RECORD.to_dict()))
    read = LearnerRecord.from_dict(block)
    assert (read.method, read.recovered, read.training) == (RECORD.method, RECORD.recovered, RECORD.training)
    assert read.answer_outputs == (None, (0, 2))
    assert [teacher.reference for teacher in read.teachers] == ["lab/a", "lab/b"]
    assert (read.config, read.left_out, read.versions) == (RECORD.config, RECORD.left_out, RECORD.versions)
    assert KnownTeachers.from_dict(block) == RECORD.known
    assert read.block == block


def test_the_order_of_the_keys_is_that_of_the_files_written_so_far():
    keys = ["config", "teachers", "answer_outputs", "skipped", "left_out", "licenses", "data_free", "method"]
    assert list(RECORD.to_dict()) == [*keys, "results", "recovered", "training", "versions"]
    continued = KnownTeachers(teachers=(), answer_outputs=(), teachers_before=2)
    assert list(continued.to_dict()) == ["teachers", "answer_outputs", "teachers_before"]


def test_energy_is_recorded_where_it_was_measured():
    assert "energy" not in RECORD.training.to_dict()
    taken = Energy(0.0123456789, 59.96, "a meter") + Energy(0.1, 30.0)
    training = replace(RECORD.training, energy=taken)
    block = json.loads(json.dumps(replace(RECORD, training=training).to_dict()))
    assert block["training"]["energy"] == {"kwh": 0.112346, "seconds": 90.0, "how": "a meter"}
    assert LearnerRecord.from_dict(block).training.energy == Energy(0.112346, 90.0, "a meter")
    for nonsense in ({"kwh": "much", "seconds": 1}, {"kwh": 1}, [3], "0.1", None):
        assert not LearnerRecord.from_dict({"training": {"energy": nonsense}}).training.energy


@pytest.mark.parametrize("kind", [MethodFacts, Recovered, Training])
def test_a_record_without_them_or_with_nonsense_has_none(kind):
    assert kind.from_dict({}) == kind()
    assert kind.from_dict({"tasks": "many", "minutes": [], "departures": 3, "of_a_later_version": 1}) == kind()
    with pytest.raises(FrozenInstanceError):
        kind().name = "other"


def test_a_pooled_learners_record_has_only_what_pooling_does():
    record = PoolRecord(
        config={"seed": 1}, teachers=RECORD.known.teachers, skipped=(), licenses={"mit": 2},
        recovered=Recovered(tasks=2), training=Training(minutes=0.5, threads=1), versions={"hf_free": "0.1.0"},
    )  # fmt: skip
    written = record.to_dict()
    keys = ["config", "teachers", "skipped", "licenses", "data_free", "results", "recovered", "training", "versions"]
    assert list(written) == keys
    assert written["training"] == {"minutes": 0.5, "threads": 1}
    assert LearnerRecord.of(record).teachers == RECORD.known.teachers


def test_a_run_that_started_from_other_weights_says_so_last():
    assert list(replace(RECORD, init_from="timm:resnet18", data_free=False).to_dict())[-1] == "init_from"
