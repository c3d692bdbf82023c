"""Pictures as files, for tests of what is served and asked."""

from __future__ import annotations

import io

import torch
from PIL import Image


def png(picture: torch.Tensor) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(buffer, "png")
    return buffer.getvalue()


def pictures(count: int, size: int = 16) -> torch.Tensor:
    return torch.randint(256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
