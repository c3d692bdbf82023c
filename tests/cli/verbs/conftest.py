"""Fixtures of the verbs' tests: a learner, pictures, a teacher."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from verbs_at_work import COLORS

from hf_free.config.sections import LearnerConfig
from hf_free.learner.meta_learner import MetaLearner
from hf_free.teachers.saving import save_teacher


@pytest.fixture(autouse=True)
def _wide_and_plain(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("FORCE_COLOR", raising=False)


@pytest.fixture(scope="session")
def learner_run(tmp_path_factory) -> Path:
    """A run's folder with an untrained learner in it; other tests only read it."""
    run = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16)).save_pretrained(run / "learner")
    (run / "learner" / "README.md").write_text("---\nlibrary_name: hf-free\n---\n# A learner\n")
    return run


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """`train/CLASS/*.png` of three colors with a little noise, and `new/*.png` beside it."""
    root = tmp_path_factory.mktemp("pictures")
    generator = torch.Generator().manual_seed(0)
    for name, color in COLORS.items():
        for index in range(8):
            noise = torch.randint(-20, 20, (20, 20, 3), generator=generator)
            values = (torch.tensor(color) + noise).clamp(0, 255).to(torch.uint8).numpy()
            path = root / "train" / name / f"{index}.png" if index < 6 else root / "new" / f"{name}{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(path)
    return root


@pytest.fixture(scope="session")
def teacher_folder(tmp_path_factory) -> Path:
    """A small real teacher in timm's Hub layout."""
    folder = tmp_path_factory.mktemp("teacher")
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=4)
    save_teacher(network, folder, label_names=["ant", "bee", "cat", "dog"], extra_cfg={"input_size": (3, 32, 32)})
    return folder
