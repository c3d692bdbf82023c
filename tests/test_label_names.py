"""Which class names are names: those that only count link no classes of different teachers."""

from __future__ import annotations

import json

import pytest
import torch
from pico import pico_folder

from hf_free.config import FreeConfig
from hf_free.teachers.label_names import is_placeholder
from hf_free.trainer import train


@pytest.mark.parametrize(
    "name", ["LABEL_0", "label_12", "class_3", "Class 3", "class3", "category-7", "7", "007", " 4 "]
)
def test_names_that_only_count_are_placeholders(name):
    assert is_placeholder(name)


@pytest.mark.parametrize(
    "name", ["n01440764", "cat", "boeing 747", "747-400", "class", "first class", "label", "5 o'clock", "3d", ""]
)
def test_names_with_a_word_are_names(name):
    assert not is_placeholder(name)


def names(prefix):
    return [f"{prefix}{index}" for index in range(5)]


def test_teachers_with_placeholders_have_as_many_classes_as_teachers_with_names(tmp_path):
    """Two teachers of five classes each: only if no two are taken for one do episodes of seven classes exist."""
    torch.manual_seed(0)
    replays = {}
    for kind, listed in {"LABEL_": ("LABEL_", "LABEL_"), "own": ("a", "b"), "same": ("a", "a")}.items():
        folders = [str(pico_folder(tmp_path / f"{kind}{i}", label_names=names(p))) for i, p in enumerate(listed)]
        config = FreeConfig.from_dict(RUN | {"models": folders})
        train(config, output=tmp_path / f"run_{kind}")
        lines = (tmp_path / f"run_{kind}" / "log.jsonl").read_text().splitlines()
        replays[kind] = sum("replay_updates" in json.loads(line) for line in lines)
    assert replays["LABEL_"] == replays["own"] > 0
    assert replays["same"] == 0


RUN = {
    "five": {
        **{"inner_steps": 1, "images_per_class": 4, "width": 4, "latent_dim": 8},
        **{"min_teacher_accuracy": 0, "min_diversity": 0},
    },
    "bell": {
        **{"objective": "align", "match_label_names": True, "n_way": 7, "k_shot": 1, "n_query": 1},
        **{"replay_tasks": 1, "replay_patience": 1, "replay_inner_steps": 1},
    },
    "learner": {"backbone": "conv4_32", "image_size": 16},
    "trainer": {"steps": 6, "warmup_steps": 0, "device": "cpu", "mixed_precision": "no", "validation_episodes": 2},
}
