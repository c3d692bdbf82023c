"""How long teachers take to be asked about the first pictures."""

from __future__ import annotations

import json

import pytest
import torch
from pico import pico_folder

from hf_free.evaluation.flops import count
from hf_free.teachers.config_check import check_config
from hf_free.teachers.loader import load_teacher
from hf_free.training.asking_time import RATES, asking_seconds


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """Configurations of three teachers, the last of the first's kind, and what a picture costs each."""
    root = tmp_path_factory.mktemp("teachers")
    named = {"a": ("resnet", 96, 0), "b": ("conv4", 32, 1), "c": ("resnet", 96, 2)}
    folders = [pico_folder(root / name, kind, size=size, seed=seed) for name, (kind, size, seed) in named.items()]
    specs = [check_config(json.loads((folder / "config.json").read_text()), folder.name) for folder in folders]
    return specs, [count(load_teacher(str(folder))).forward_flops for folder in folders]


def test_all_teachers_operations_for_all_pictures_at_the_rate_of_a_thread(taught):
    specs, operations = taught
    pictures = 1024 + 1024 + 2048 + 512  # pooled, to find the best, to learn from, held out
    one = pictures * sum(operations) / RATES["cpu"]
    assert asking_seconds(specs, torch.device("cpu"), 1) == pytest.approx(one)
    assert asking_seconds(specs, torch.device("cpu"), 4) == pytest.approx(one / 4)
    on_gpu = asking_seconds(specs, torch.device("cuda"), 4)
    assert on_gpu == pytest.approx(pictures * sum(operations) / RATES["cuda"]), "whatever the threads"


def test_networks_of_one_kind_are_counted_once(taught, monkeypatch):
    specs, _ = taught
    built = []
    monkeypatch.setattr(
        "hf_free.training.asking_time.build_network", lambda spec, *rest: built.append(spec) or _build(spec, *rest)
    )
    asking_seconds([*specs, *specs], torch.device("cpu"), 1)
    assert len(built) == 2


def _build(*arguments):
    from hf_free.teachers.building import build_network

    return build_network(*arguments)
