"""Strokes: colors and plain grounds."""

from __future__ import annotations

import pytest
import torch

from hf_free.data.procedural.strokes import ink_share, strokes


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("mean", [(0.8, 0.7, 0.6), (0.2, 0.3, 0.45)])
def test_colors_are_the_teachers(mean):
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


@pytest.mark.parametrize(("share", "strength"), [(0.1, 0.7), (0.3, 1.0)])
@pytest.mark.parametrize("light", [True, False])
def test_share_of_ink_of_two_tones(share, strength, light):
    ink = strength * (torch.rand(200_000, generator=_generator()) < share).float()
    values = 1 - ink if light else ink
    assert ink_share(values.mean(), values.std()) == pytest.approx(share, rel=0.02)


@pytest.mark.parametrize("size", [28, pytest.param(64, marks=pytest.mark.long)])
@pytest.mark.parametrize(("mean", "std"), [(0.924, 0.22), (0.13, 0.31), (0.25, 0.35)])  # Omniglot, MNIST, a broad pen
def test_strokes_are_as_wide_as_the_share_of_ink_says(mean, std, size):
    wanted = ink_share(torch.tensor(mean), torch.tensor(std))
    pictures = strokes(300, size, generator=_generator(), mean=0.5, std=0.01)  # another pen: the control
    assert ink_share_of(pictures) != pytest.approx(wanted, rel=0.25)
    pictures = strokes(300, size, generator=_generator(), mean=mean, std=std)
    assert ink_share_of(pictures) == pytest.approx(wanted, rel=0.15)


def ink_share_of(pictures):
    """The share, of drawn pictures whose ground is their most frequent value."""
    ink = (pictures - pictures.median()).abs()
    return (ink.mean() ** 2 / (ink.mean() ** 2 + ink.var())).item()
