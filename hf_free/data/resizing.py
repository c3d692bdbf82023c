"""Resizing tensors of pictures by the filters that teachers' configurations name."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

FILTERS = {"bilinear": "bilinear", "bicubic": "bicubic", "nearest": "nearest-exact", "lanczos": "bicubic"}
"""Pillow's names of filters -> PyTorch's differentiable ones that come nearest; any other name means bilinear."""


def resize(images: Tensor, size: tuple[int, int], interpolation: str = "bilinear", *, limit: float = 1.0) -> Tensor:
    """Resize pictures with antialiasing, differentiable; the shape is not kept.

    Args:
        images: Float tensor (B, C, H, W), values from 0 to `limit`.
        size: Height and width wanted.
        interpolation: A filter's name, see `FILTERS`.
        limit: Value of white. Bicubic overshoots and is clipped to the range, as Pillow does.

    Returns:
        (B, C, *size); pictures of that size are returned as they are.
    """
    if images.shape[-2:] == size:
        return images
    mode = FILTERS.get(interpolation, "bilinear")
    if mode == "nearest-exact":
        return F.interpolate(images, size, mode=mode)
    resized = F.interpolate(images, size, mode=mode, align_corners=False, antialias=True)
    return resized.clamp(0, limit) if mode == "bicubic" else resized
