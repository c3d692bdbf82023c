"""A backbone's own features beside what a linear map makes of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hf_free.learner.full_precision import in_full_precision


class FeaturesBeside(nn.Module):
    """Features, centered and scaled, which stand beside a projection's output.

    Where a projection has fewer outputs than inputs, both side by side take fewer weights than one linear map with the
    same inner products (`hf_free.pooling.imitation.joined_projection`).

    Args:
        width: Number of features d.

    Attributes:
        center: (d,) subtracted.
        scale: Factor of what is left.
    """

    center: Tensor
    scale: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(width))
        self.register_buffer("scale", torch.ones(()))

    @torch.no_grad()
    def fit(self, features: Tensor, predicted: Tensor) -> None:
        """Center features (N, d), and scale them to the mean length of a projection's outputs (N, D) for them."""
        self.center.copy_(features.mean(0))
        lengths = (features - self.center).norm(dim=1).mean().clamp_min(1e-8)
        self.scale.copy_(predicted.norm(dim=1).mean() / lengths)

    @in_full_precision
    def forward(self, features: Tensor) -> Tensor:
        """(..., d) -> (..., d)."""
        return (features - self.center) * self.scale
