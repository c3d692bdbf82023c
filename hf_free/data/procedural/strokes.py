"""Strokes on a plain ground: drawn pictures for teachers of writing, to whom dead leaves look like nothing known.

A picture is one to five curved strokes of one width. Lake, Salakhutdinov & Tenenbaum ("Human-level concept learning
through probabilistic program induction", Science 2015) draw characters by strokes whose shapes are learned from
people's pens; here no pen was looked at. The mean and deviation which the teachers were trained with say how much ink
there is, and so how wide a stroke is on average, and the shades of ground and ink; every other number is made up.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hf_free.data.procedural.dead_leaves import uniform

STROKES = 5
"""Strokes of a picture at most."""

POINTS = 32
"""Points of a stroke that distances are measured to; on 32 pixels they lie closer together than a stroke is wide."""

WIDTHS, SOFTNESSES = (0.03, 0.12), (0.015, 0.06)
"""Ranges of half a stroke's width and of its edge's, where a picture is 2 wide, of a pen of 1."""

SHARE_OF_PEN = 0.15
"""Share of ink that a pen of 1 leaves, measured on 28 to 64 pixels; it is nearly in proportion to the pen."""

PENS = (0.3, 3.0)
"""Range of the pen: thinner strokes vanish between pixels, wider ones are blots."""


def strokes(
    count: int, size: int, *, generator: torch.Generator, mean: Tensor | float = 0.9, std: Tensor | float = 0.25
) -> Tensor:
    """Draw a few curved strokes on a plain ground.

    Args:
        count: Number of pictures.
        size: Height and width in pixels.
        generator: CPU generator.
        mean: Mean of the whole batch per channel, (3,) or a number, in [0, 1]; above 0.5 the ground is light.
        std: Deviation of the whole batch per channel, likewise; what does not fit into [0, 1] is cut off.

    Returns:
        (count, 3, size, size) in [0, 1].
    """
    mean, std = (torch.as_tensor(value, dtype=torch.float32).expand(3).view(1, 3, 1, 1) for value in (mean, std))
    pen = min(max(ink_share(mean, std) / SHARE_OF_PEN, PENS[0]), PENS[1])
    ink = ink_of(count, size, generator, pen=pen) * uniform((count, 1, 1), 0.75, 1.15, generator)
    contrast = std / ink.std().clamp_min(1e-6) * torch.where(mean > 0.5, -1.0, 1.0)
    ground = mean - contrast * ink.mean()
    return (ground + contrast * ink.unsqueeze(1)).clamp_(0, 1)


def ink_share(mean: Tensor, std: Tensor) -> float:
    """Share of the pixels that ink covers in pictures of that mean and deviation, of nothing but ink and ground.

    Ink of strength a on a share p of the pixels has the mean m = p a and the variance p (1 - p) a^2 = m^2 (1 / p - 1).
    """
    ink = torch.where(mean > 0.5, 1 - mean, mean)  # the ground is white or black
    return (ink.square() / (ink.square() + std.square()).clamp_min(1e-12)).mean().item()


def ink_of(
    count: int,
    size: int,
    generator: torch.Generator,
    *,
    strokes: int = STROKES,
    scale: float = 1.0,
    pen: float = 1.0,
) -> Tensor:
    """How much ink lies where -> (count, size, size), 0 to 1.

    Args:
        count: Number of pictures.
        size: Height and width in pixels.
        generator: CPU generator.
        strokes: Strokes of a picture at most.
        scale: Factor on their size.
        pen: Factor on their width.
    """
    axis = torch.linspace(-1, 1, size)
    pixels = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).view(1, size * size, 2).expand(count, -1, -1)
    width, softness = (pen * uniform((count, 1), *bounds, generator) for bounds in (WIDTHS, SOFTNESSES))
    number = torch.randint(1, strokes + 1, (count, 1), generator=generator)
    ink = torch.zeros(count, size * size)
    for place, points in enumerate(_curves(count, strokes, generator).unbind(1)):
        distance = torch.cdist(pixels, scale * points).amin(2)
        ink = torch.maximum(ink, torch.sigmoid((width - distance) / softness) * (place < number))
    return ink.view(count, size, size)


def _curves(count: int, strokes: int, generator: torch.Generator) -> Tensor:
    """Points along cubic Bézier curves -> (count, strokes, POINTS, 2); half of them begin where one ended."""
    corners = uniform((count, strokes, 4, 2), -1, 1, generator)
    start, end = corners[:, :, :1], corners[:, :, 3:]
    along = torch.tensor([0.0, 1 / 3, 2 / 3, 1.0]).view(1, 1, 4, 1)
    straight = torch.lerp(start, end, along)
    is_bent = (uniform((count, strokes, 1, 1), 0, 1, generator) < 0.7).float()
    bend = is_bent * uniform((count, strokes, 1, 1), 0, 1.3, generator)
    inner = straight + (corners - straight) * bend
    controls = torch.cat([start, inner[:, :, 1:3], end], 2)
    is_joined = uniform((count, strokes, 1), 0, 1, generator) < 0.5
    for place in range(1, strokes):
        controls[:, place, 0] = torch.where(is_joined[:, place], controls[:, place - 1, 3], controls[:, place, 0])
    t = torch.linspace(0, 1, POINTS).view(-1, 1)
    weights = torch.cat([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], 1)  # Bernstein polynomials
    size, center = (
        uniform((count, 1, 1, 1), 0.45, 0.95, generator),
        uniform((count, 1, 1, 2), -0.25, 0.25, generator),
    )
    return center + size * torch.einsum("pk,nskc->nspc", weights, controls)
