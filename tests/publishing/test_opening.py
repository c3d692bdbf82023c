"""A pooled learner is published only if others can have its teachers."""

from __future__ import annotations

import pytest
from records import local_teacher, record, secret_teacher, teacher

from hf_free.errors import HubError
from hf_free.provenance.learner_record import LearnerRecord
from hf_free.publishing.opening import check_can_be_opened

SIZES = {"features": [4], "answers": [0]}


def pooled(*teachers, hub=None, **learner):
    block = record(list(teachers), hub=hub)
    return LearnerRecord.from_dict({**block, "learner": {"backbone": "pooled", "pooled": SIZES, **learner}})


def test_public_teachers_will_do():
    check_can_be_opened(pooled(teacher()))


def test_folders_are_refused_unless_their_files_are_with_it():
    with pytest.raises(HubError, match=r"/data/mine is a folder[\s\S]*--include-weights"):
        check_can_be_opened(pooled(teacher(), local_teacher("/data/mine")))
    check_can_be_opened(pooled(local_teacher("/data/mine"), teachers_included=True))


def test_private_teachers_are_named_or_not_at_all():
    with pytest.raises(HubError, match="name_private_teachers"):
        check_can_be_opened(pooled(secret_teacher()))
    check_can_be_opened(pooled(secret_teacher(), hub={"name_private_teachers": True}))


def test_learners_of_their_own_network_need_nobody():
    check_can_be_opened(LearnerRecord.from_dict(record([local_teacher("/data/mine"), secret_teacher()])))
