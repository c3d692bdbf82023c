"""A 3x3 convolution of maps enlarged to twice their size, computed at the size that they had."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class UpsamplingConv2d(nn.Conv2d):
    """`nn.Upsample(scale_factor=2)`, then `nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)`.

    Of the nine pixels that the kernel covers many are copies of each other. For each of the four places of an output
    pixel within an enlarged one, the kernel's weights for one and the same pixel are added up: a 2x2 kernel of the
    small maps, four ninths of the operations, and no enlarged maps to write and read (the sub-pixel view of
    Shi et al. 2016, arXiv 1609.07009, section 3). Equal up to rounding.

    Args:
        in_channels: Of the maps.
        out_channels: Of the result.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, 2 H, 2 W)."""
        return _Interleaved.apply(F.conv2d(input, four_kernels(self.weight), padding=1))


def four_kernels(weight: Tensor) -> Tensor:
    """A kernel (O, I, 3, 3) of enlarged maps as one for each of the four places, of the small ones: (4 O, I, 2, 2).

    In their order: upper left, upper right, lower left, lower right.
    """
    both = _of_both_places(_of_both_places(weight, 2), 4)  # (O, I, 2 places, 2 rows, 2 places, 2 columns)
    return both.permute(2, 4, 0, 1, 3, 5).flatten(0, 2)


def _of_both_places(weight: Tensor, dim: int) -> Tensor:
    """Three weights along a dimension as (places, 2): the first place sees the neighbor before a pixel and the pixel,
    the second the pixel and the neighbor behind it."""
    before, middle, behind = weight.unbind(dim)
    added = torch.stack([before, middle + behind, before + middle, behind], dim)
    return added.unflatten(dim, (2, 2))


class _Interleaved(torch.autograd.Function):
    """(B, 4 C, H + 1, W + 1), the four places' values where each place's window ends, -> (B, C, 2 H, 2 W)."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        """Each place's values to where they belong."""
        count, channels, height, width = values.shape
        ctx.shape, ctx.layout = values.shape, _layout_of(values)
        shape = (count, channels // 4, 2 * (height - 1), 2 * (width - 1))
        enlarged = _empty(values, shape, ctx.layout)
        for target, source in _pairs(enlarged, values):
            target.copy_(source)
        return enlarged

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """And back; the windows at one edge of each place are not used."""
        values = _empty(gradients[0], ctx.shape, ctx.layout).zero_()
        for source, target in _pairs(gradients[0], values):
            target.copy_(source)
        return values


def _empty(like: Tensor, shape: Sequence[int], layout: torch.memory_format) -> Tensor:
    return torch.empty(*shape, dtype=like.dtype, device=like.device, memory_format=layout)


def _layout_of(values: Tensor) -> torch.memory_format:
    is_last = values.is_contiguous(memory_format=torch.channels_last) and not values.is_contiguous()
    return torch.channels_last if is_last else torch.contiguous_format


def _pairs(enlarged: Tensor, values: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """For each place its pixels, and its values in `values`."""
    channels, height, width = enlarged.shape[1], values.shape[2] - 1, values.shape[3] - 1
    for place, (row, column) in enumerate(product((0, 1), (0, 1))):
        own = values[:, place * channels : (place + 1) * channels, row : row + height, column : column + width]
        yield enlarged[..., row::2, column::2], own
