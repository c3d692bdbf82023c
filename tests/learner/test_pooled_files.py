"""Teachers' files in a pooled learner's folder."""

from __future__ import annotations

import json

from torch import nn

from hf_free.learner.pooled_backbone import PooledBackbone
from hf_free.learner.pooled_files import copy_teacher_files, teacher_files


def write_config(folder, **learner):
    folder.mkdir()
    path = folder / "config.json"
    path.write_text(json.dumps({"hf_free": {"learner": learner, "teachers": [{}, {}]}}))
    return path


def test_a_config_says_which_files_are_with_it(tmp_path):
    assert teacher_files(write_config(tmp_path / "named")) == []
    assert teacher_files(write_config(tmp_path / "with", teachers_included=True)) == [
        "teachers/00/config.json",
        "teachers/00/model.safetensors",
        "teachers/01/config.json",
        "teachers/01/model.safetensors",
    ]
    assert teacher_files(tmp_path / "nowhere") == []


def test_files_go_where_the_learner_is_saved(tmp_path):
    kept = tmp_path / "kept" / "teachers" / "00"
    kept.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (kept / name).write_text(name)
    backbone = PooledBackbone([None], (3,), (0,), included=tmp_path / "kept")
    copy_teacher_files(backbone, tmp_path / "saved")
    copy_teacher_files(backbone, tmp_path / "kept")
    for folder in ("saved", "kept"):
        found = {path.name: path.read_text() for path in (tmp_path / folder / "teachers" / "00").iterdir()}
        assert found == {"config.json": "config.json", "model.safetensors": "model.safetensors"}


def test_others_have_none(tmp_path):
    for backbone in (nn.Identity(), PooledBackbone([None], (3,), (0,))):
        copy_teacher_files(backbone, tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
