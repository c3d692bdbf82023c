"""Emblems: a plate with a rim and a figure on it before a blurred ground, in changing light.

Drawn pictures for teachers of things that people make to be told apart: road signs, logos, buttons, badges. A plate is
a disc, a triangle, a square or an octagon, its figure one to four strokes. As with the other kinds no picture was
looked at and every number is made up; colors come from the teachers' mean and deviation.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_free.data.procedural.dead_leaves import dead_leaves, random_colors, recolored, uniform
from hf_free.data.procedural.strokes import ink_of

CORNERS = (0, 0, 0, 3, 3, 4, 4, 8)
"""Corners of a plate, drawn uniformly from these; 0 is a disc."""

FIGURE_STROKES = 4
"""Strokes of a figure at most."""

FIGURE_SIZE = 0.6
"""Size of a figure among those of bare strokes: it stands on the plate."""

FIGURE_PEN = 1.6
"""Its strokes are wider than a pen's."""

LIGHT = (0.25, 1.3)
"""Range of the factor on a picture's brightness: shade and sun."""

GROUND_BLUR = 4
"""Pixels that the ground is averaged over: it lies behind the plate, out of focus."""


def emblems(
    count: int, size: int, *, generator: torch.Generator, mean: Tensor | float = 0.5, std: Tensor | float = 0.25
) -> Tensor:
    """Draw plates with figures.

    Args:
        count: Number of pictures.
        size: Height and width in pixels.
        generator: CPU generator.
        mean: Mean of the whole batch per channel, (3,) or a number, in [0, 1].
        std: Deviation of the whole batch per channel, likewise.

    Returns:
        (count, 3, size, size) in [0, 1].
    """
    inside = _plates(count, size, generator).unsqueeze(1)
    softness = uniform((count, 1, 1, 1), 0.02, 0.1, generator)
    rim = uniform((count, 1, 1, 1), 0.0, 0.3, generator)
    figure = ink_of(count, size, generator, strokes=FIGURE_STROKES, scale=FIGURE_SIZE, pen=FIGURE_PEN).unsqueeze(1)
    picture = _grounds(count, size, generator)
    for mask in (torch.sigmoid(inside / softness), torch.sigmoid((inside - rim) / softness), figure):
        colors = (0.5 + 0.28 * random_colors(count, generator)).clamp(0, 1)
        picture = torch.lerp(picture, colors.expand_as(picture), mask)
    picture = picture * uniform((count, 1, 1, 1), *LIGHT, generator)
    blurred = F.avg_pool2d(F.pad(picture, (1, 1, 1, 1), mode="replicate"), 3, 1)
    picture = torch.lerp(picture, blurred, uniform((count, 1, 1, 1), 0, 1, generator))
    return recolored(picture, mean, std)


def _grounds(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Blurred dead leaves -> (count, 3, size, size)."""
    leaves = dead_leaves(count, size, generator=generator)
    return F.interpolate(F.adaptive_avg_pool2d(leaves, max(1, size // GROUND_BLUR)), size=size, mode="bilinear")


def _plates(count: int, size: int, generator: torch.Generator) -> Tensor:
    """How far inside a plate each pixel lies -> (count, size, size): 1 in its middle, 0 on its edge, below 0 outside.

    A regular polygon of n corners is r cos(angle to the nearest edge's middle) = constant in polar coordinates.
    """
    axis = torch.linspace(-1, 1, size)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    corners = torch.tensor(CORNERS)[torch.randint(len(CORNERS), (count,), generator=generator)].view(-1, 1, 1)
    center = uniform((2, count, 1, 1), -0.15, 0.15, generator)
    radius = uniform((count, 1, 1), 0.6, 0.95, generator)
    x, y = (x - center[0]) / radius, (y - center[1]) / radius
    edges = corners.clamp_min(3).float()
    stands_on_corner = torch.randint(0, 2, (count, 1, 1), generator=generator)
    turn = stands_on_corner * math.pi / edges + uniform((count, 1, 1), -0.12, 0.12, generator)
    sector = 2 * math.pi / edges
    distance = (x.square() + y.square()).sqrt()
    to_middle = torch.remainder(torch.atan2(y, x) + turn, sector) - sector / 2
    # edges halfway, by ratio, between the circles within and around: plates of any corners are about as large
    polygon = distance * to_middle.cos() / (sector / 2).cos().sqrt()
    return 1 - torch.where(corners == 0, distance, polygon)
