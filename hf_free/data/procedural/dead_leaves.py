"""Dead-leaves pictures: random shapes that hide each other, a statistical model of natural images without any image.

Lee, Mumford & Huang, "Occlusion models for natural images" (2001), showed that such pictures share the scale
invariance, the edges and the marginal statistics of photographs; Baradad et al., "Learning to See by Looking at
Noise" (NeurIPS 2021), that networks learn useful features from them. hf-free asks the teachers about them: they cover
the space between the recovered pictures of single classes. Teachers' mean and deviation give the colors.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LEAVES = 14
"""Shapes per picture."""

EXPONENTS = (1.0, 2.2)
"""Range of a in the 1/f^a amplitude spectrum of the textures; photographs lie near 1 (Field 1987), 2.2 is smooth."""


def fractal_noise(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Colored noise with a 1/f^a spectrum -> (count, 3, size, size), mean 0 and deviation about 1."""
    rows, columns = torch.fft.fftfreq(size).view(-1, 1), torch.fft.rfftfreq(size).view(1, -1)
    frequency = (rows.square() + columns.square()).sqrt().clamp_min(1 / size)
    exponent = uniform((count, 1, 1, 1), *EXPONENTS, generator)
    white = torch.fft.rfft2(torch.randn(count, 3, size, size, generator=generator))
    noise = torch.fft.irfft2(white / frequency**exponent, s=(size, size))
    noise = noise - noise.mean((2, 3), keepdim=True)
    noise = noise / _deviation(noise, (1, 2, 3)).clamp_min(1e-6)
    # photographs vary mostly in luminance: the three channels share 0.6 of each other, with some variety
    mix = 0.5 * torch.eye(3) + 0.6 + 0.15 * torch.randn(count, 3, 3, generator=generator)
    return torch.einsum("ncd,ndhw->nchw", mix, noise)


def dead_leaves(
    count: int,
    size: int,
    *,
    generator: torch.Generator,
    mean: Tensor | float = 0.5,
    std: Tensor | float = 0.25,
    leaves: int = LEAVES,
) -> Tensor:
    """Draw textured ellipses and rounded rectangles over each other.

    Args:
        count: Number of pictures.
        size: Height and width in pixels.
        generator: CPU generator.
        mean: Mean of the whole batch per channel, (3,) or a number, in [0, 1].
        std: Deviation of the whole batch per channel, likewise.
        leaves: Shapes per picture.

    Returns:
        (count, 3, size, size) in [0, 1].
    """
    axis = torch.linspace(-1, 1, size)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    picture = random_colors(count, generator) + _texture(count, size, generator)
    for leaf in range(leaves):
        small = 0.6 if leaf > leaves // 2 else 1.0  # details lie on top
        radius = small * (uniform((count, 1, 1), 0, 1, generator) ** 1.5 * 0.9 + 0.06)
        center_x, center_y = uniform((count, 1, 1), -1, 1, generator), uniform((count, 1, 1), -1, 1, generator)
        angle = uniform((count, 1, 1), 0, math.pi, generator)
        aspect = uniform((count, 1, 1), 0.25, 1, generator)
        u = ((x - center_x) * angle.cos() + (y - center_y) * angle.sin()) / radius
        v = ((y - center_y) * angle.cos() - (x - center_x) * angle.sin()) / (radius * aspect)
        is_ellipse = uniform((count, 1, 1), 0, 1, generator) < 0.6
        u_square, v_square = u.square(), v.square()
        rectangle = u_square**3 + v_square**3  # a superellipse of power 6 is a rounded rectangle
        inside = 1 - torch.where(is_ellipse, u_square + v_square, rectangle)
        mask = torch.sigmoid(inside * uniform((count, 1, 1), 4, 20, generator)).unsqueeze(1)  # edges of all widths
        mask = mask * (uniform((count, 1, 1, 1), 0, 1, generator) < 0.8)
        slopes = 0.3 * torch.randn(2, count, 1, 1, generator=generator)
        shade = (u * slopes[0] + v * slopes[1]).clamp(-1, 1).unsqueeze(1)
        leaf_colors = random_colors(count, generator) + shade + 0.7 * _texture(count, size, generator)
        picture = torch.lerp(picture, leaf_colors, mask)
    return recolored(picture, mean, std)


def recolored(pictures: Tensor, mean: Tensor | float, std: Tensor | float) -> Tensor:
    """Give a batch (N, 3, H, W) a mean and a deviation per channel, (3,) or one number each; clipped to [0, 1]."""
    pictures = pictures - pictures.mean((0, 2, 3), keepdim=True)
    pictures = pictures / _deviation(pictures, (0, 2, 3)).clamp_min(1e-6)
    per_channel = [torch.as_tensor(value, dtype=torch.float32).view(1, -1, 1, 1) for value in (std, mean)]
    return (pictures * per_channel[0] + per_channel[1]).clamp_(0, 1)


def _deviation(values: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Standard deviation of values whose mean is 0; `Tensor.std` finds the mean again, in ten times the time."""
    count = math.prod(values.shape[dim] for dim in dims)
    return torch.linalg.vector_norm(values, dim=dims, keepdim=True) / max(1, count - 1) ** 0.5


def random_colors(count: int, generator: torch.Generator) -> Tensor:
    """A brightness and a smaller tint per picture -> (count, 3, 1, 1)."""
    bright = torch.randn(count, 1, 1, 1, generator=generator)
    return 0.9 * bright + 0.45 * torch.randn(count, 3, 1, 1, generator=generator)


def _texture(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Fractal noise of exponentially distributed strength, mean 1/3: most surfaces are nearly plain."""
    strength = torch.empty(count, 1, 1, 1).exponential_(3.0, generator=generator)
    return fractal_noise(count, size, generator) * strength


def uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    """Random numbers between low and high."""
    return torch.rand(shape, generator=generator) * (high - low) + low
