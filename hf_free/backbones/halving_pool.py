"""A maximum over windows of 2x2, quicker where no gradients are wanted."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class HalvingPool(nn.MaxPool2d):
    """`nn.MaxPool2d(2)`; a CPU that answers without gradients does not look for the indices of the maxima.

    64 pictures' maps of 64x32x32 in fp32, one thread of an AMD EPYC: 1.8 ms; `nn.MaxPool2d` takes 3.9 ms for maps that
    are channels-last and 23 ms for others (docs/experiments/speed.md).
    """

    def __init__(self) -> None:
        super().__init__(2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H // 2, W // 2)."""
        # an exported network has one node for the maximum, which other programs know
        is_recorded = torch.is_grad_enabled() or torch.jit.is_tracing() or torch.compiler.is_compiling()
        if x.device.type != "cpu" or is_recorded:
            return super().forward(x)
        height, width = x.shape[-2] // 2 * 2, x.shape[-1] // 2 * 2
        rows = torch.maximum(x[..., 0:height:2, :], x[..., 1:height:2, :])
        return torch.maximum(rows[..., 0:width:2], rows[..., 1:width:2])
