"""Teachers' files in a pooled learner's folder."""

from __future__ import annotations

import json

import pytest
from torch import nn

from hf_free.errors import LearnerError
from hf_free.learner.pooled_backbone import PooledBackbone
from hf_free.learner.pooled_files import copy_files, files_to_bring, teacher_files


def write_config(folder, teachers, **learner):
    folder.mkdir()
    path = folder / "config.json"
    path.write_text(json.dumps({"hf_free": {"learner": learner, "teachers": teachers}}))
    return path


def pooled(included):
    return PooledBackbone([None], (3,), (0,), included=included)


@pytest.fixture
def kept(tmp_path):
    """A learner's folder with the files of its one teacher, which is transformers'."""
    folder = tmp_path / "kept" / "teachers" / "00"
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        (folder / name).write_text(name)
    return tmp_path / "kept"


def test_a_config_says_which_files_are_with_it(tmp_path):
    teachers = [{"sha256": {"config.json": "1", "model.safetensors": "2", "processor_config.json": "3"}}, {}]
    assert teacher_files(write_config(tmp_path / "named", teachers)) == {}
    assert teacher_files(write_config(tmp_path / "with", teachers, teachers_included=True)) == {
        "teachers/00/config.json": "1",
        "teachers/00/model.safetensors": "2",
        "teachers/00/processor_config.json": "3",
        "teachers/01/config.json": "",
        "teachers/01/model.safetensors": "",
    }
    assert teacher_files(tmp_path / "nowhere") == {}


def test_files_go_where_the_learner_is_saved(kept, tmp_path):
    saved = tmp_path / "saved"
    copy_files(files_to_bring(pooled(kept), saved), saved)
    found = {path.relative_to(saved).as_posix(): path.read_text() for path in saved.rglob("*") if path.is_file()}
    names = ("config.json", "model.safetensors", "preprocessor_config.json")
    assert found == {f"teachers/00/{name}": name for name in names}


def test_files_that_lie_there_stay(kept, tmp_path):
    assert files_to_bring(pooled(kept), kept) == {}
    staging = kept / ".saving-0123"
    staging.mkdir()
    (kept / "teachers").rename(staging / "teachers")
    assert files_to_bring(pooled(staging), kept) == {}  # a save finishes the interrupted one first
    (staging / "teachers").rename(kept / "teachers")
    assert files_to_bring(pooled(tmp_path / "kept"), tmp_path) != {}  # a folder above is another place


def test_files_that_are_gone_are_named(kept, tmp_path):
    (kept / "teachers" / "00" / "model.safetensors").unlink()
    with pytest.raises(LearnerError, match=r"teacher 1 has no .*00/model\.safetensors any more"):
        files_to_bring(pooled(kept), tmp_path / "saved")


def test_others_have_none(tmp_path):
    for backbone in (nn.Identity(), pooled(None)):
        assert files_to_bring(backbone, tmp_path / "saved") == {}
