"""Logits of some teachers about each image: values, and which teachers' blocks they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor


def row_width(sizes: Sequence[int], asked: int) -> int:
    """Most values that so many blocks of these sizes can have."""
    return sum(sorted(sizes, reverse=True)[:asked])


@dataclass(frozen=True)
class LogitRows:
    """What teachers say of a batch of images, the answers about an image side by side in a row.

    Attributes:
        values: (N, W) logits; NaN where there is no answer. Behind the last answer of a row they mean nothing.
        sizes: Number of columns of each block of the layout.
        blocks: (N, K) which blocks stand in a row, one behind the other; -1 for none. None: all of them, in order.
    """

    values: Tensor
    sizes: tuple[int, ...]
    blocks: Tensor | None = None

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, which: slice | Tensor) -> LogitRows:
        return LogitRows(self.values[which], self.sizes, None if self.blocks is None else self.blocks[which])

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> LogitRows:
        """The same on a device, its values in a type."""
        blocks = None if self.blocks is None else self.blocks.to(device)
        return LogitRows(self.values.to(device, dtype or self.values.dtype), self.sizes, blocks)

    def tensor_split(self, parts: int) -> list[LogitRows]:
        """Nearly equal parts, as `torch.tensor_split` cuts them."""
        values = self.values.tensor_split(parts)
        if self.blocks is None:
            return [LogitRows(part, self.sizes) for part in values]
        blocks = self.blocks.tensor_split(parts)
        return [LogitRows(part, self.sizes, of) for part, of in zip(values, blocks, strict=True)]

    def split(self, sizes: Sequence[int]) -> list[LogitRows]:
        """Parts of these numbers of rows, as `torch.split` cuts them."""
        ends = list(accumulate(sizes))
        return [self[slice(end - size, end)] for size, end in zip(sizes, ends, strict=True)]

    def keeping(self, kept: Sequence[bool]) -> LogitRows:
        """The same without the blocks that are not `kept`; those that are left close up."""
        if all(kept):
            return self
        flags = torch.tensor(list(kept), device=self.values.device)
        sizes = tuple(size for size, is_kept in zip(self.sizes, kept, strict=True) if is_kept)
        if self.blocks is None:
            return LogitRows(self.values[:, flags.repeat_interleave(torch.tensor(self.sizes))], sizes)
        placed, known = self.placed(), self.blocks.long().clamp_min(0)
        stays = placed.is_inside & flags[placed.owners]
        order = (~stays).int().argsort(dim=1, stable=True)
        places = torch.where(flags, flags.cumsum(0) - 1, -1)
        blocks = torch.where(self.blocks >= 0, places[known], -1)
        blocks = blocks.gather(1, (blocks < 0).int().argsort(dim=1, stable=True))
        return LogitRows(self.values.gather(1, order), sizes, blocks)

    def placed(self) -> Placement:
        """Where the values of rows that have not all blocks belong."""
        assert self.blocks is not None
        sizes = torch.tensor(self.sizes, device=self.values.device)
        return place_rows(self.blocks.long(), sizes, self.values.shape[1])

    def dense(self) -> Tensor:
        """(N, sum of all sizes), NaN where nobody was asked: for few rows, it takes memory for every teacher."""
        if self.blocks is None:
            return self.values
        placement, width = self.placed(), sum(self.sizes)
        columns = torch.where(placement.is_inside, placement.columns, width)
        full = self.values.new_full((len(self), width + 1), torch.nan)  # the last one is for what means nothing
        return full.scatter_(1, columns, self.values)[:, :width]


@dataclass(frozen=True)
class Placement:
    """Where the values (N, W) of rows belong.

    Attributes:
        columns: (N, W) column of the layout.
        slots: (N, W) which of the row's blocks, 0 to K - 1.
        owners: (N, W) which of the layout's blocks.
        counts: (N, K) sizes of the row's blocks.
        is_inside: (N, W) whether the value means anything.
    """

    columns: Tensor
    slots: Tensor
    owners: Tensor
    counts: Tensor
    is_inside: Tensor


def place_rows(blocks: Tensor, sizes: Tensor, width: int) -> Placement:
    """Where the values of rows belong that hold these blocks (N, K), -1 for none, one behind the other.

    Args:
        blocks: (N, K) of the layout's blocks.
        sizes: Number of columns of each of the layout's blocks.
        width: Values of a row.
    """
    starts, known = sizes.cumsum(0) - sizes, blocks.clamp_min(0)
    counts = torch.where(blocks >= 0, sizes[known], 0)
    ends = counts.cumsum(1)
    places = torch.arange(width, device=blocks.device).expand(len(blocks), width).contiguous()
    slots = torch.searchsorted(ends, places, right=True)
    is_inside = slots < blocks.shape[1]
    slots = slots.clamp_max(blocks.shape[1] - 1)
    owners = known.gather(1, slots)
    columns = starts[owners] + places - (ends - counts).gather(1, slots)
    return Placement(torch.where(is_inside, columns, 0), slots, owners, counts, is_inside)
