"""Random shifts and flips of images, in one gather."""

from __future__ import annotations

import torch
from torch import Tensor

from hf_free.runtime.random_streams import GLOBAL, Stream

MAX_SHIFT_SHARE = 8
"""Pictures shift by up to 1/8 of their size: FREE's RandomCrop(32, padding=4)."""


def shift_and_flip(pictures: Tensor, *, flip: bool = True, stream: Stream = GLOBAL) -> Tensor:
    """Shift each picture by up to 1/8 of its size (edges repeated); `flip` every other one at random; one gather.

    Args:
        pictures: (B, C, H, W).
        flip: Whether pictures are flipped, too.
        stream: By which numbers.
    """
    count, _, height, width = pictures.shape
    device, generator = pictures.device, stream.on(pictures.device)
    reach = max(1, height // MAX_SHIFT_SHARE)
    dy, dx = torch.randint(-reach, reach + 1, (2, count, 1), device=device, generator=generator)
    mirrored = torch.rand(count, 1, device=device, generator=generator) < (0.5 if flip else 0.0)
    rows = (torch.arange(height, device=device) + dy).clamp_(0, height - 1)  # (B, H)
    columns = torch.arange(width, device=device).expand(count, -1)
    columns = (torch.where(mirrored, width - 1 - columns, columns) + dx).clamp_(0, width - 1)  # (B, W)
    batch = torch.arange(count, device=device)[:, None, None]
    # (B, H, W, C): indexing the channels-last view moves whole pixels
    return pictures.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
