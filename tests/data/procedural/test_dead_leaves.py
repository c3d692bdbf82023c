"""Dead leaves: their colors, their spectrum, their edges."""

from __future__ import annotations

import math

import pytest
import torch

from hf_free.data.procedural.dead_leaves import dead_leaves, fractal_noise


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_colors_are_the_teachers():
    mean, std = torch.tensor([0.6, 0.5, 0.35]), torch.tensor([0.05, 0.08, 0.1])  # hardly anything is clipped
    pictures = dead_leaves(64, 16, generator=_generator(), mean=mean, std=std)
    assert pictures.mean((0, 2, 3)).tolist() == pytest.approx(mean.tolist(), abs=5e-3)
    assert pictures.std((0, 2, 3)).tolist() == pytest.approx(std.tolist(), rel=0.05)


def test_pictures_differ_and_hold_edges():
    pictures = dead_leaves(16, 32, generator=_generator())
    flat = pictures.flatten(1)
    distances = torch.cdist(flat, flat) / flat.shape[1] ** 0.5
    assert distances[~torch.eye(16, dtype=torch.bool)].min() > 0.05
    steps = (pictures[..., 1:] - pictures[..., :-1]).abs().flatten()
    # occlusion: most neighbors are nearly alike, a few are far apart (a Gaussian's ratio is about 3.8)
    assert steps.quantile(0.99) > 8 * steps.median()


def test_noise_is_standardized_before_its_channels_are_mixed():
    noise = fractal_noise(200, 16, _generator())
    assert noise.mean((2, 3)).abs().max() < 1e-4
    gray = noise.mean(1)
    assert gray.std() > 0.6 * noise.std()  # photographs vary mostly in luminance


def test_spectrum_falls_like_a_power_between_the_two_exponents():
    """The amplitude of 1/f^a noise, measured by a slow DFT of one row frequency at a time."""
    size = 16
    noise = fractal_noise(300, size, _generator(3))[:, 0].double()
    amplitude = {}
    for f in (1, 2, 4):
        cos = torch.tensor([math.cos(2 * math.pi * f * x / size) for x in range(size)], dtype=torch.float64)
        sin = torch.tensor([math.sin(2 * math.pi * f * x / size) for x in range(size)], dtype=torch.float64)
        rows = noise.mean(1)  # vertical frequency 0
        amplitude[f] = ((rows @ cos).square() + (rows @ sin).square()).mean().sqrt().item()
    for low, high in ((1, 2), (2, 4)):
        exponent = math.log2(amplitude[low] / amplitude[high])
        assert 0.9 < exponent < 2.3
