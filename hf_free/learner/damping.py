"""Damping: directions in which recovered pictures differ most, whatever they show, count less.

A head that sees five pictures cannot know that half of what they differ by is, say, brightness. The pictures recovered
from the teachers can tell: the penalty on a classifier's weights w becomes |w|^2 plus the variance of w's scores over
them, Tikhonov's regularisation (1963) with identity and covariance in the place of the identity. That is the same as
fitting a head to features that are multiplied by the root of its inverse, so it serves every head; heads bring the
support features to length 1 again, queries keep the length they get.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hf_free.learner import LearnerError
from hf_free.learner.repository import load_strictly

DIRECTIONS = 64
"""Directions that can be damped; those of less variance hardly would be (docs/experiments.md)."""


class Damping(nn.Module):
    """Multiplies features by a symmetric matrix: the identity, but for a few directions.

    Args:
        directions: Number of directions K.
        width: Width D of the features.
    """

    directions: Tensor
    factors: Tensor
    scale: Tensor

    def __init__(self, directions: int, width: int) -> None:
        super().__init__()
        self.register_buffer("directions", torch.zeros(directions, width))
        self.register_buffer("factors", torch.ones(directions))
        self.register_buffer("scale", torch.ones(()))

    @torch.no_grad()
    def fit(self, features: Tensor, half: float) -> None:
        """Learn from the features (N, D) of pictures.

        A direction of variance v is multiplied by 1 / sqrt(1 + v / (half * m)), m being the mean variance of the D
        dimensions, and all by one number, so that the features keep a mean squared length of 1, which heads count on.
        """
        seen = features.double()
        centred = seen - seen.mean(0)
        covariance = centred.T @ centred / len(centred)
        variances, vectors = torch.linalg.eigh(covariance)
        count = len(self.factors)
        ratios = variances.flip(0)[:count].clamp_min(0) / covariance.diagonal().mean().clamp_min(1e-30)
        self.directions.copy_(vectors.flip(1)[:, :count].T)
        self.factors.copy_((1 + ratios / half).rsqrt())
        self.scale.fill_(1)
        self.scale.copy_(self(features).double().square().sum(1).mean().clamp_min(1e-30).rsqrt())

    def forward(self, features: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        along = features @ self.directions.T
        return (features - (along * (1 - self.factors)) @ self.directions) * self.scale


def learn_damping(features: Tensor, half: float) -> Damping | None:
    """Learn from features (N, D) of recovered pictures, see `Damping.fit`; None where there are fewer than two."""
    if len(features) < 2:
        return None
    damping = Damping(min(DIRECTIONS, features.shape[1]), features.shape[1])
    damping.fit(features, half)
    return damping.to(features.device)


def rebuild_damping(count: object, width: int, tensors: dict[str, Tensor], source: str) -> Damping:
    """Damping as a learner's repository holds it.

    Raises:
        LearnerError: a number of directions that cannot be, or tensors that do not fit.
    """
    if not isinstance(count, int) or not 0 < count <= width:
        raise LearnerError(f"{source} damps {count!r} directions", allowed=f"1 to {width}, its features' width")
    damping = Damping(count, width)
    load_strictly(damping, tensors, source)
    return damping
