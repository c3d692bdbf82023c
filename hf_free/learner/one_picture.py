"""What files for phones have in common: they take one picture of one size.

LiteRT and ExecuTorch hold a batch of any number wrongly or not at all, and LiteRT has no antialiased resize. For
pictures of one size the resize is two matrix products, which every runtime has.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hf_free.errors import LearnerError

MOST_PIXELS = 1_000_000
"""Larger pictures are reduced in Python while they are decoded, and would not be in the file."""


class FixedResize(nn.Module):
    """The antialiased resize of pictures of one size to a square, as two matrix products.

    Args:
        given: Height and width of the pictures.
        size: Height and width of the square.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, given: tuple[int, int], size: int) -> None:
        super().__init__()
        self.register_buffer("rows", _weights(given[0], size))
        self.register_buffer("columns", _weights(given[1], size).T.contiguous())

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, *given) -> (B, C, size, size)."""
        return self.rows @ images @ self.columns


class FixedSize(nn.Module):
    """Leaves pictures of one size as they are, in a way that pictures of other sizes do not fit.

    LiteRT fits a file's network to whatever picture it is given, and one that pools answers about any size, otherwise
    than it would about the resized picture. So values are compared with limits that they never reach, one for each
    row and column, no two of them equal: equal ones the converter would make one number, which fits all sizes.

    Args:
        given: Height and width of the pictures.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, given: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("rows", 256.0 + torch.arange(given[0]).view(1, 1, -1, 1))
        self.register_buffer("columns", 256.0 + torch.arange(given[1]).view(1, 1, 1, -1))

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, *given), up to 255, as they are."""
        return torch.minimum(torch.minimum(images, self.rows), self.columns)


def fixed_resize(given: tuple[int, int], size: int) -> nn.Module:
    """What brings pictures of one size, values from 0 to 255, to a square; other pictures do not fit."""
    return FixedSize(given) if given == (size, size) else FixedResize(given, size)


def check_input_size(given: tuple[int, int]) -> None:
    """Refuse a size of pictures that no file is written for.

    Raises:
        LearnerError: a side below 1, or more pixels than `MOST_PIXELS`.
    """
    if min(given) < 1 or given[0] * given[1] > MOST_PIXELS:
        raise LearnerError(
            f"pictures of {size_text(given)}",
            allowed=f"a height and a width of 1 or more, {MOST_PIXELS:,} pixels in all or fewer",
        )


def size_text(given: tuple[int, int]) -> str:
    """Height and width as they are written on the command line."""
    return f"{given[0]}x{given[1]}"


def varied_pictures(height: int, width: int, smooth: Tensor) -> Tensor:
    """Pictures of one size that a file is compared on: smooth ones, noise, black, white, a hard edge and stripes.

    Args:
        height: Of all of them.
        width: Likewise.
        smooth: uint8 (B, 3, height, width), taken as they are.
    """
    noise = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    drawn = torch.zeros(4, 3, height, width, dtype=torch.uint8)
    drawn[1] = 255
    drawn[2, 0, :, : width // 2] = 255  # an upright edge between red and black
    drawn[3, :, ::2] = 255
    return torch.cat([smooth, noise, drawn])


def _weights(given: int, wanted: int) -> Tensor:
    """(wanted, given): what each pixel of a resized column is made of."""
    columns = torch.eye(given)[None, None]
    return F.interpolate(columns, (wanted, given), mode="bilinear", align_corners=False, antialias=True)[0, 0]
