"""Pushing a learner's folder: what a killed save left is completed in what is uploaded, not in the folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

from hf_free.config.sections import LearnerConfig
from hf_free.errors import HubError, PushError
from hf_free.learner.meta_learner import MetaLearner
from hf_free.learner.push import push_learner

IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def make(seed: int) -> MetaLearner:
    torch.manual_seed(seed)
    return MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16), backbone={"width": 4}).eval()


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def killed_while_saving(learner: MetaLearner, folder: Path) -> None:
    """Save in a process that dies after it has put the first file into its place."""
    child = os.fork()
    if not child:
        real = os.replace

        def once(*paths) -> None:
            real(*paths)
            os._exit(9)

        os.replace = once
        learner.save_pretrained(folder)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def test_a_killed_save_is_completed_in_the_copy(tmp_path, monkeypatch):
    old, new = make(1), make(2)
    folder, uploaded = tmp_path / "learner", tmp_path / "uploaded"
    old.save_pretrained(folder)
    killed_while_saving(new, folder)
    before = content(folder)
    assert any("/" in name for name in before), "the killed save left something behind"

    def push_folder(copy: Path, repo_id: str, **options) -> str:
        shutil.copytree(copy, uploaded)
        return f"{repo_id}: {options['commit_message']}"

    monkeypatch.setattr("hf_free.publishing.push.push_folder", push_folder)
    assert push_learner(folder, "me/few-shot") == "me/few-shot: Upload meta-learner with hf-free"
    assert content(folder) == before
    assert set(content(uploaded)) == {"config.json", "model.safetensors", "hf_free.safetensors", "README.md"}
    arrived = MetaLearner.from_pretrained(uploaded).embed(IMAGES)
    assert any(torch.equal(arrived, whole.embed(IMAGES)) for whole in (old, new))
    assert 'from_pretrained("me/few-shot")' in (uploaded / "README.md").read_text()


def test_a_failure_names_the_folder(tmp_path, monkeypatch):
    make(1).save_pretrained(tmp_path / "my learner")

    def push_folder(copy: Path, repo_id: str, **options) -> str:
        raise HubError(f"{repo_id} is not yours", action="choose another name")

    monkeypatch.setattr("hf_free.publishing.push.push_folder", push_folder)
    with pytest.raises(PushError, match="me/few-shot is not yours") as caught:
        push_learner(tmp_path / "my learner", "me/few-shot")
    assert caught.value.folder == tmp_path / "my learner"
    assert caught.value.again == f"hf-free push '{tmp_path}/my learner' me/few-shot"
