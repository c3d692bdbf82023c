"""An adapted classifier's files: read strictly."""

from __future__ import annotations

import json

import pytest
import torch
from learners import LABELS, make, pictures
from safetensors.torch import load_file, save_file

from hf_free.errors import LearnerError
from hf_free.learner.backbone_kinds import Access
from hf_free.learner.classifier_files import read_classifier
from hf_free.learner.persistence import Origin
from hf_free.runtime.files import sha256_of


@pytest.fixture
def folder(tmp_path):
    make().adapt(pictures(), LABELS).save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("rejection", {"threshold": "high"}, "rejection of classifier.json"),
        ("rejection", {"threshold": 1.0, "false_rejections": 2}, "rejection of classifier.json"),
        ("transductive", "magic", "transductive of classifier.json is 'magic'"),
        ("support", {"rows": "all"}, "support of classifier.json"),
        ("classes", ["ant", True, "cat"], "classes of classifier.json"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(folder, key, value, message):
    content = json.loads((folder / "classifier.json").read_text())
    (folder / "classifier.json").write_text(json.dumps({**content, key: value}))
    with pytest.raises(LearnerError, match=message):
        read_classifier(folder, "here", Access())


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("rows", torch.ones(6, 3), "size mismatch for rows"),
        ("labels", torch.zeros(6, dtype=torch.long), "one row or more of each class"),
        ("rows", None, "Missing key rows"),
    ],
)
def test_a_support_that_does_not_fit_is_refused(folder, name, tensor, message):
    tensors = load_file(folder / "support.safetensors")
    changed = {key: value for key, value in {**tensors, name: tensor}.items() if value is not None}
    save_file(changed, folder / "support.safetensors")
    with pytest.raises(LearnerError, match=r"support.safetensors is not the file"):
        read_classifier(folder, "here", Access())
    content = json.loads((folder / "classifier.json").read_text())
    content["support"]["sha256"] = sha256_of(folder / "support.safetensors")
    (folder / "classifier.json").write_text(json.dumps(content))
    with pytest.raises(LearnerError, match=message):
        read_classifier(folder, "here", Access())


def test_true_and_false_come_back(tmp_path):
    make().adapt(pictures(), [True, False] * 3).save_pretrained(tmp_path)
    assert read_classifier(tmp_path, "here", Access()).classes == (False, True)


def test_a_private_learner_is_not_named(tmp_path):
    learner = make()
    for origin, expected in (
        (Origin("me/learner", "c0ffee", private=False), {"repo_id": "me/learner", "commit": "c0ffee"}),
        (Origin("me/secret", "c0ffee", private=True), {"private": True}),
    ):
        learner.origin = origin
        learner.adapt(pictures(), LABELS).save_pretrained(tmp_path)
        assert json.loads((tmp_path / "classifier.json").read_text())["learner"] == expected
        assert read_classifier(tmp_path, "here", Access()).origin.private == origin.private
