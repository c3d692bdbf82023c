"""The meta-generator: latents and class slots in, pictures in [0, 1] out."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hf_free.inversion.upsampling_conv import UpsamplingConv2d

LEAK = 0.2
"""Slope of LeakyReLU (DAFL, Chen et al. 2019; the generator of FREE's released code)."""

CANVAS_EPS = 0.02
"""Keeps the logits of black and white canvas pixels within 4, where the generator can still paint."""

LARGEST_SEED = 16
"""Largest height of the first feature map: a linear layer onto more would dwarf the rest of the network."""


INITIAL_DEVIATION = 0.02
"""Of `start_afresh`, as DCGAN has it (Radford et al. 2016, section 4)."""


def start_afresh(generator: nn.Module) -> None:
    """First weights of a generator that serves one teacher: N(0, 0.02), BatchNorm's N(1, 0.02), biases 0.

    `reset_model` of BiDf-MKD's and TGR's public code. FREE's meta-generator starts from PyTorch's own initialization.
    """
    for module in generator.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, INITIAL_DEVIATION)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, INITIAL_DEVIATION)
            nn.init.zeros_(module.bias)


class MetaGenerator(nn.Module):
    """Generator of FREE's released code, after DAFL and CMI: a linear layer, then upsampling and 3x3 convolutions.

    Linear(latent -> 2 width x s0 x s0), BatchNorm, then a stage of (nearest x2, 3x3 convolution, BatchNorm,
    LeakyReLU) per doubling of the size, a 3x3 convolution to the channels, sigmoid. Two stages up to 64 pixels, as
    released. BatchNorm always uses the batch's statistics, so there are no running ones to keep.

    Args:
        image_size: Height and width of the pictures.
        channels: 1 or 3.
        latent_dim: Width of a latent z.
        width: Channels of the last hidden layer.
        class_slots: Number of class codes that are added to z; 0 makes the generator unconditional, as in FREE.
    """

    def __init__(
        self, image_size: int, channels: int = 3, latent_dim: int = 256, width: int = 64, class_slots: int = 0
    ) -> None:
        super().__init__()
        self.image_size, self.latent_dim = image_size, latent_dim
        stages = 2 if image_size <= 64 else math.ceil(math.log2(image_size / LARGEST_SEED))
        self.seed_size = math.ceil(image_size / 2**stages)
        self.codes = nn.Parameter(torch.randn(class_slots, latent_dim)) if class_slots else None
        widths = [2 * width] * stages + [width]  # 128, 128, 64 in FREE
        self.seed = nn.Linear(latent_dim, widths[0] * self.seed_size**2)
        self.seed_norm = nn.BatchNorm2d(widths[0], track_running_stats=False)
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Identity(),  # where the upsampling was: saved generators count from it
                UpsamplingConv2d(before, after),
                nn.BatchNorm2d(after, track_running_stats=False),
                nn.LeakyReLU(LEAK),
            )
            for before, after in pairwise(widths)
        )
        self.to_picture = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, latents: Tensor, slots: Tensor | None = None, canvas: Tensor | None = None) -> Tensor:
        """Paint pictures.

        Args:
            latents: (B, latent_dim).
            slots: (B,) class slots.
            canvas: (B, channels, image_size, image_size) in (0, 1), painted over: the output layer's values are
                added to the canvas's logits.

        Returns:
            (B, channels, image_size, image_size) in [0, 1].
        """
        if self.codes is not None and slots is not None:
            latents = latents + self.codes[slots]
        maps = self.seed(latents).unflatten(1, (-1, self.seed_size, self.seed_size))
        maps = self.seed_norm(maps.contiguous(memory_format=torch.channels_last))
        for stage in self.stages:
            maps = stage(maps)
        paint = self.to_picture(maps).float()
        if paint.shape[-1] != self.image_size:
            paint = F.interpolate(paint, size=self.image_size, mode="bilinear", antialias=True)
        return (paint if canvas is None else paint + canvas.logit(CANVAS_EPS)).sigmoid()
