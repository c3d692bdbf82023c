"""Data sets that several tests of evaluation share."""

from __future__ import annotations

import pytest
import torch
from drawn import picture
from pico import pico_teacher

from hf_free.evaluation.datasets import LabeledImages


@pytest.fixture(scope="module")
def data():
    """Five classes of colored noise, 12 pictures each; so much noise that no method is right every time."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(5).repeat_interleave(12)[torch.randperm(60, generator=generator)]
    colors = torch.tensor([[135, 110, 110], [110, 135, 110], [115, 125, 115], [110, 110, 135], [120, 120, 120]])
    noise = torch.randint(-110, 110, (60, 3, 16, 16), generator=generator)
    noise += torch.randint(-40, 40, (60, 3, 1, 1), generator=generator)
    images = (colors[labels].view(60, 3, 1, 1) + noise).clamp(0, 255).to(torch.uint8)
    return LabeledImages(images, labels, ["red", "lime", "Dark_Green", "blue", "gray"], "noise", "test")


@pytest.fixture(scope="module")
def teachers():
    """Two Conv-4 and a ViT that take 16x16 pictures."""
    kinds = [("conv4", 1), ("conv4", 2), ("vit", 3)]
    return [pico_teacher(kind, seed=seed, size=16, label_names=list("vwxyz")) for kind, seed in kinds]


@pytest.fixture
def parquet(tmp_path):
    """A folder of two splits; the classes' names include one that never occurs."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["dog", "ape", "bee"])}
    )
    folder = tmp_path / "set" / "data"
    folder.mkdir(parents=True)
    for split, labels in (("train", [0, 1, 2, 1]), ("validation", [1, 2, 2])):
        content = {"image": [picture(30 * label) for label in labels], "label": labels}
        datasets.Dataset.from_dict(content, features=features).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder.parent
