"""Pictures of any kind -> one float batch in [0, 1], and the test-time views of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Union

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hf_free.learner import LearnerError

if TYPE_CHECKING:
    from PIL.Image import Image

Images = Union["Image", Tensor, Sequence[Union["Image", Tensor]]]
"""One picture, a list of pictures, or a tensor (B, C, H, W) or (C, H, W); tensors are uint8 or float in [0, 1]."""

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey value (ITU-R BT.601, as Pillow's mode L)."""

VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda images: images,
    "flip": lambda images: images.flip(-1),
}
"""Test-time views by name; each maps (B, C, H, W) to the same shape."""


def match_channels(images: Tensor, channels: int) -> Tensor:
    """Turn grey pictures into colour ones or the reverse: (B, 1 or 3, H, W) -> (B, channels, H, W).

    Raises:
        LearnerError: pictures with neither one nor three channels.
    """
    given = images.shape[1]
    if given == channels:
        return images
    if given == 1:
        return images.expand(-1, channels, -1, -1)
    if given == 3 and channels == 1:
        weights = images.new_tensor(LUMA).view(1, 3, 1, 1)
        return (images * weights).sum(1, keepdim=True)
    raise LearnerError(
        f"pictures with {given} channels, shape {tuple(images.shape)}",
        allowed=f"1 or 3 channels (channels first) for a learner that sees {channels}",
        action="permute height x width x channels tensors to channels x height x width",
    )


def resize(images: Tensor, size: int) -> Tensor:
    """Resize (B, C, H, W) to (B, C, size, size), bilinear with antialiasing, differentiable; the shape is not kept."""
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True, align_corners=False)


def to_float(images: Tensor) -> Tensor:
    """Turn uint8 or float pictures into floats in [0, 1].

    Raises:
        LearnerError: another type of number, or floats outside [0, 1].
    """
    if images.dtype == torch.uint8:
        return images.float() / 255
    if not images.is_floating_point():
        raise LearnerError(f"pictures of type {images.dtype}", allowed="uint8, or float in [0, 1]")
    low, high = (images.min().item(), images.max().item()) if images.numel() else (0.0, 1.0)
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # a resize may overshoot a little; NaN fails too
        raise LearnerError(
            f"float pictures with values from {low:.3g} to {high:.3g}",
            allowed="float in [0, 1], or uint8; the learner normalises by itself",
            action="undo the normalisation, or divide by 255",
        )
    return images.float()


def picture_to_tensor(picture: Image) -> Tensor:
    """Turn a PIL picture of any mode into a uint8 tensor (3, H, W)."""
    return torch.from_numpy(np.array(picture.convert("RGB"), dtype=np.uint8)).permute(2, 0, 1).contiguous()


def as_batch(images: Images, *, size: int, channels: int) -> Tensor:
    """Turn pictures of any kind into one batch.

    Args:
        images: A PIL picture, a list of PIL pictures or tensors (C, H, W) of any sizes, or one tensor (B, C, H, W).
        size: Height and width of the batch.
        channels: Channels of the batch, 1 or 3.

    Returns:
        Float tensor (B, channels, size, size) in [0, 1].

    Raises:
        LearnerError: no picture, or something that is none.
    """
    if isinstance(images, Tensor):
        if images.ndim not in (3, 4):
            raise LearnerError(
                f"a tensor of shape {tuple(images.shape)}",
                allowed="(channels, height, width) for one picture, (batch, channels, height, width) for several",
            )
        batch = images if images.ndim == 4 else images[None]
        if not len(batch):
            raise LearnerError("no pictures", allowed="at least one picture")
        return resize(match_channels(to_float(batch), channels), size)
    if not isinstance(images, Sequence):
        images = [images]
    if not len(images):
        raise LearnerError("no pictures", allowed="at least one picture")
    return torch.cat([as_batch(_one(picture), size=size, channels=channels) for picture in images])


def _one(picture: Image | Tensor) -> Tensor:
    """One picture as a tensor (C, H, W)."""
    if isinstance(picture, Tensor):
        if picture.ndim != 3:
            raise LearnerError(
                f"a list holds a tensor of shape {tuple(picture.shape)}", allowed="(channels, height, width) a picture"
            )
        return picture
    if hasattr(picture, "convert"):
        return picture_to_tensor(picture)
    raise LearnerError(
        f"a picture of type {type(picture).__name__}",
        allowed="PIL pictures or torch tensors, one or a list, or one batch tensor",
        action="open files with PIL.Image.open(path)",
    )
