"""Strokes: colours and plain grounds."""

from __future__ import annotations

import pytest
import torch

from hf_free.inversion.strokes import strokes


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("mean", [(0.8, 0.7, 0.6), (0.2, 0.3, 0.45)])
def test_colours_are_the_teachers(mean):
    mean, std = torch.tensor(mean), torch.tensor([0.05, 0.08, 0.06])  # nothing is cut off
    pictures = strokes(64, 24, generator=_generator(), mean=mean, std=std)
    assert pictures.mean((0, 2, 3)).tolist() == pytest.approx(mean.tolist(), abs=2e-3)
    assert pictures.std((0, 2, 3)).tolist() == pytest.approx(std.tolist(), rel=0.02)


@pytest.mark.parametrize(("mean", "ground"), [(0.92, 1), (0.13, 0)])
def test_a_plain_ground_and_ink_on_it(mean, ground):
    pictures = strokes(64, 32, generator=_generator(), mean=mean, std=0.25)
    on_ground = (pictures - ground).abs() < 0.15
    assert on_ground.float().mean() > 0.6  # most of a picture is empty
    assert (~on_ground).flatten(1).any(1).all()  # none is
