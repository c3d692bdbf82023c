"""Emblems: plates with a figure, drawn for teachers of signs and the like."""

from __future__ import annotations

import math

import pytest
import torch

from hf_free.data.procedural import emblems as module
from hf_free.data.procedural.emblems import emblems


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_batch_has_the_wanted_mean_and_deviation():
    mean, std = (0.33, 0.29, 0.29), (0.15, 0.14, 0.15)
    pictures = emblems(200, 32, generator=_generator(), mean=torch.tensor(mean), std=torch.tensor(std))
    assert pictures.mean((0, 2, 3)).tolist() == pytest.approx(mean, abs=0.03)
    assert pictures.std((0, 2, 3)).tolist() == pytest.approx(std, abs=0.03)


@pytest.mark.parametrize(("corners", "area"), [(0, math.pi), (4, None), (8, None)])
def test_plates_are_as_large_as_their_polygon(monkeypatch, corners, area):
    monkeypatch.setattr(module, "CORNERS", (corners,))
    inside = module._plates(400, 64, _generator())
    share = (inside > 0).float().mean().item() * 4  # of the square of side 2
    # between inner and outer circle: a polygon whose edges lie at r cos(a) = R sqrt(cos(pi / n))
    mean_square = (0.95**3 - 0.6**3) / (3 * (0.95 - 0.6))  # of a radius uniform in 0.6 to 0.95
    area = area or corners * math.tan(math.pi / corners) * math.cos(math.pi / corners)
    assert share == pytest.approx(area * mean_square, rel=0.05)


def test_a_triangle_is_there_too():
    inside = module._plates(50, 64, _generator())
    assert (inside.amax((1, 2)) > 0.8).all()  # its middle lies in the picture
    assert (inside[:, 0, 0] < 0).all()  # the corner does not belong to it


def test_pictures_have_more_contrast_inside_than_on_the_ground():
    pictures = emblems(200, 32, generator=_generator())
    inner = pictures[:, :, 8:24, 8:24].std((2, 3)).mean()
    corners = pictures[:, :, :5, :5].std((2, 3)).mean()
    assert inner > 1.5 * corners
