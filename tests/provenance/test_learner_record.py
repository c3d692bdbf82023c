"""A learner's record, read from blocks of this version, of older ones and of strangers."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from hf_free.config.tree import FreeConfig
from hf_free.provenance.learner_record import LearnerRecord, Publication, RecordedLearner
from hf_free.provenance.recorded_teacher import LeftOut, RecordedTeacher
from hf_free.provenance.run_record import Imitation, Training
from hf_free.provenance.teacher_record import TeacherRecord

TEACHER = TeacherRecord(
    reference="lab/a@v1:0-2", repo_id="lab/a", commit="0123abc", architecture="conv4_32", parameters=28485,
    input_size=(3, 32, 32), fixed_input_size=False, mean=(0.5,) * 3, std=(0.2,) * 3, interpolation="bicubic",
    num_classes=3, label_names=("zero", "one", "two"), num_features=288, normalization={"BatchNorm2d": 4},
    license="mit", sha256={"config.json": "cd" * 32, "model.safetensors": "ab" * 32}, classes=(0, 1, 2),
)  # fmt: skip


def test_what_the_loader_records_is_read_back():
    read = RecordedTeacher.from_dict(json.loads(json.dumps(TEACHER.to_dict())))
    same = ("reference", "repo_id", "commit", "architecture", "parameters", "num_classes", "normalization", "license")
    for name in (*same, "private", "gated", "sha256", "classes", "label_names"):
        assert getattr(read, name) == getattr(TEACHER, name), name
    assert read.input_size == ("3", "32", "32")
    assert read.weights_sha256 == "ab" * 32
    assert TeacherRecord.from_dict(json.loads(json.dumps(TEACHER.to_dict()))) == TEACHER


@pytest.mark.parametrize(
    ("changes", "hidden", "public"),
    [
        ({}, False, True),
        ({"private": True}, True, False),
        ({"gated": "manual"}, True, False),
        ({"repo_id": None}, False, False),
        ({"private": None, "gated": None}, False, True),
    ],
)
def test_who_may_see_a_teacher(changes, hidden, public):
    read = RecordedTeacher.from_dict({**TEACHER.to_dict(), **changes})
    assert (read.is_hidden, read.is_public) == (hidden, public)


def test_an_empty_block_has_defaults_everywhere():
    record = LearnerRecord.from_dict({})
    assert record == LearnerRecord()
    assert (record.data_free, record.publication) == (None, Publication())
    assert record.setting("bell", "lr") is None
    assert RecordedTeacher.from_dict({}) == RecordedTeacher()
    assert RecordedTeacher().weights_sha256 == ""


def test_a_block_is_read_and_written_as_it_was():
    config = FreeConfig.from_dict({"bell": {"lr": 0.5}, "hub": {"license": "mit", "card_images": False}}).to_dict()
    block = {
        "config": config,
        "teachers": [TEACHER.to_dict()],
        "skipped": [{"reference": "lab/b", "reason": "why", "asked": True}, {"private": False, "gated": False}],
        "left_out": {"dull": 2},
        "data_free": False,
        "results": [{"dataset": "org/x", "split": "test", "rows": [{"method": "learner", "n_way": 5, "k_shot": 1}]}],
        "training": {"minutes": 1.5},
        "of_a_later_version": {"kept": [1]},
        "format_version": 1,
        "learner": {"backbone": "conv4_64", "head": "ridge", "relevance": True, "damping": 60, "shared_classes": 9},
    }
    before = json.dumps(block)
    record = LearnerRecord.from_dict(block)
    assert json.dumps(record.block) == before == json.dumps(block)
    assert record.publication == Publication(license="mit", card_images=False, base_model_relation="finetune")
    assert record.setting("bell", "lr") == 0.5
    assert record.skipped == (LeftOut("lab/b", "why", asked=True), LeftOut("", "", is_known_public=True))
    assert record.learner == RecordedLearner(
        "conv4_64", 32, 3, "ridge", weighs_teachers=True, is_whitened=True, shared_classes=9
    )
    (report,) = record.results
    assert (report.dataset, report.local, report.seed, report.rows[0].accuracy) == ("org/x", None, None, None)


def test_of_maml_no_part_of_the_embedding_is_told():
    learner = RecordedLearner.from_dict({"head": "maml", "relevance": True, "damping": 60})
    assert not learner.weighs_teachers
    assert not learner.is_whitened


@pytest.mark.parametrize("odd", [None, 7, "text", [None], ["x", 3], {"a": 1}, True, float("nan")])
def test_values_of_another_kind_are_none(odd):
    """Each key in turn holds something strange: a card can still be made of it."""
    fields = [*LearnerRecord.__dataclass_fields__, "hub"]
    for key in fields:
        record = LearnerRecord.from_dict({key: odd, "config": odd if key == "config" else {"hub": odd}})
        assert isinstance(record.data_free, bool | None)
        assert all(isinstance(teacher, RecordedTeacher) for teacher in record.teachers)
    for key in asdict(RecordedTeacher()):
        read = RecordedTeacher.from_dict({key: odd})
        assert isinstance(read.reference, str)
        assert isinstance(read.label_names, tuple)


def test_a_learner_that_is_saved_keeps_unknown_keys_and_gets_a_version():
    record = LearnerRecord.from_dict({"of_a_later_version": {"kept": [1]}, "data_free": True})
    assert record.version is None
    saved = record.saved_as(1, {"backbone": "conv4_64", "pooled": None})
    assert saved.to_dict() == {**record.to_dict(), "format_version": 1, "learner": saved.block["learner"]}
    assert (saved.version, saved.learner.backbone, saved.is_pooled) == (1, "conv4_64", False)
    assert record.saved_as(1, {"pooled": {"features": [4], "answers": [0]}}).is_pooled


def test_what_a_network_started_from_decides_whether_it_is_data_free():
    assert LearnerRecord().is_data_free, "the first learners did not record it"
    assert not LearnerRecord.started_from("timm:resnet18", data_free=False).is_data_free
    assert LearnerRecord.started_from("org/learner", data_free=True).init_from == "org/learner"


def test_a_network_that_imitates_a_learner_has_its_teachers_but_not_its_results():
    pooled = LearnerRecord.from_dict({"teachers": [TEACHER.to_dict()], "results": [{}], "repo_id": "org/pooled"})
    small = pooled.of_imitation({"seed": 3}, Training(minutes=2.0, steps=7), Imitation(agreement=0.9))
    assert (small.teachers, small.results, small.repo_id) == (pooled.teachers, (), None)
    assert (small.config, small.training.steps, small.imitation.agreement) == ({"seed": 3}, 7, 0.9)
    assert small.block["training"] == {"minutes": 2.0, "steps": 7}, "what is not known is not written"
    assert pooled.with_teachers([TEACHER, TEACHER]).teachers == pooled.teachers * 2
