"""Opening a pooled learner's teachers; more of it, over a Hub, in tests/training/test_pool.py."""

from __future__ import annotations

import pytest
import torch
from pico import pico_folder

from hf_free.errors import HubError, LearnerError, TeacherError, TeacherReferenceError
from hf_free.learner.backbone_kinds import Access, PooledParts
from hf_free.pooling.opening import open_teachers
from hf_free.provenance.recorded_teacher import RecordedTeacher
from hf_free.teachers.loader import load_teacher


def parts(*entries, tmp_path, **access):
    sizes = (0,) * len(entries), (5,) * len(entries)
    teachers = list(map(RecordedTeacher.from_dict, entries))
    return PooledParts("me/pooled", tmp_path, teachers, *sizes, 3, False, Access(**access))


def test_a_folder_of_this_computer_opens(tmp_path):
    teacher = load_teacher(pico_folder(tmp_path / "given", "conv4", size=16))
    backbone = open_teachers(parts(teacher.record.to_dict(), tmp_path=tmp_path))
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(backbone(images), teacher.logits(images))


def test_what_is_said_of_a_teacher_has_to_be_whole(tmp_path):
    with pytest.raises(LearnerError, match="the record of teacher 1 is incomplete"):
        open_teachers(parts({"reference": "org/a"}, tmp_path=tmp_path))


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"repo_id": "org/a/b", "commit": "a" * 40}, TeacherReferenceError, "more than one '/'"),
        ({"repo_id": "org/a", "commit": None}, LearnerError, "has no commit"),
        ({"private": True}, LearnerError, "is private and not named"),
        ({"repo_id": "org/a", "commit": "a" * 40}, HubError, "local_files_only"),
    ],
)
def test_places_where_no_teacher_can_be_had(tmp_path, changes, error, words):
    record = load_teacher(pico_folder(tmp_path / "given", "conv4", size=16)).record.to_dict()
    access = {"local_files_only": True, "cache_dir": tmp_path / "cache"}
    with pytest.raises(error, match=words):
        open_teachers(parts({**record, **changes}, tmp_path=tmp_path, **access))


def test_a_teacher_that_has_gone_or_changed_is_told_with_the_learners_name(tmp_path):
    """Nobody typed the teacher's name."""
    folder = pico_folder(tmp_path / "given", "conv4", size=16)
    record = load_teacher(folder).record.to_dict()
    pico_folder(tmp_path / "given", "conv4", size=16, seed=9)
    with pytest.raises(TeacherError, match=r"me/pooled needs its teachers: .* has other files than") as changed:
        open_teachers(parts(record, tmp_path=tmp_path))
    assert "the same model.safetensors as then" in changed.value.allowed
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(TeacherReferenceError, match=r"me/pooled needs its teachers: .* does not exist"):
        open_teachers(parts(record, tmp_path=tmp_path))
