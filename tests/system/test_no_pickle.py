"""No way leads to a pickle: what timm or torch would unpickle is never given to them.

timm's own loaders read pickles (`load_checkpoint`, `load_state_dict`, a repository's `pytorch_model.bin`), and
releases of both have had advisories about it. hf-free therefore stands on no release of timm without one: it never
gets there, which is what is shown here.
"""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import timm.models
import timm.models._builder
import timm.models._helpers
import torch
from learners import make
from pico import pico_folder

from hf_free.errors import HfFreeError
from hf_free.learner.meta_learner import MetaLearner
from hf_free.teachers.loader import load_teacher
from hf_free.teachers.reference import TeacherReference


class Reached(Exception):
    """Somebody began to unpickle."""


class Bomb:
    """What a hostile pickle holds."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('code of a repository ran')",))


@pytest.fixture(autouse=True)
def _no_unpickling(monkeypatch):
    def reached(*arguments, **options):
        raise Reached(arguments)

    for holder, name in (
        *((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load"), (np, "load")),
        *((timm.models._helpers, "load_checkpoint"), (timm.models._helpers, "load_state_dict")),
        *((timm.models._builder, "load_pretrained"), (timm.models._builder, "load_custom_pretrained")),
        *((timm.models._builder, "load_state_dict_from_hf"), (timm.models._builder, "load_state_dict_from_url")),
    ):
        monkeypatch.setattr(holder, name, reached)


ADDRESSES = {
    "file": "pytorch_model.bin",
    "url": "https://evil.example/pytorch_model.bin",
    "hf_hub_id": "evil/net",
    "hf_hub_filename": "pytorch_model.bin",
    "source": "hf-hub",
    "state_dict": {"a": 1},
    "custom_load": True,
}
"""What a config.json may say of where weights are."""


def _evil_folder(folder, *, keep_safe):
    pico_folder(folder, "resnet")
    for name in ("pytorch_model.bin", "model.pth", "model.npz", "model.safetensors.bin"):
        (folder / name).write_bytes(pickle.dumps(Bomb()))
    config = json.loads((folder / "config.json").read_text())
    config["pretrained_cfg"] |= ADDRESSES
    (folder / "config.json").write_text(json.dumps(config))
    if not keep_safe:
        (folder / "model.safetensors").unlink()
    return TeacherReference(str(folder), is_local=True)


def test_the_guard_sees_timm_itself_reach_a_pickle(tmp_path):
    _evil_folder(tmp_path, keep_safe=True)
    with pytest.raises(Reached):
        timm.create_model("test_resnet", checkpoint_path=str(tmp_path / "pytorch_model.bin"), pretrained=True)


def test_a_teacher_with_pickles_beside_its_weights_is_loaded_without_them(tmp_path):
    teacher = load_teacher(_evil_folder(tmp_path, keep_safe=True))
    assert any("ignored" in note for note in teacher.record.notes)


def test_a_teacher_of_pickles_alone_is_refused(tmp_path):
    with pytest.raises(HfFreeError, match="only pickled weights"):
        load_teacher(_evil_folder(tmp_path, keep_safe=False))


@pytest.mark.parametrize("file", ["model.safetensors", "hf_free.safetensors"])
def test_a_pickle_under_a_safe_name_is_refused(file, tmp_path):
    make().save_pretrained(tmp_path)
    (tmp_path / file).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(HfFreeError):
        MetaLearner.from_pretrained(str(tmp_path))
    reference = _evil_folder(tmp_path / "teacher", keep_safe=True)
    (tmp_path / "teacher" / "model.safetensors").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(HfFreeError):
        load_teacher(reference)
