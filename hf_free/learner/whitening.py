"""Whitening: directions in which recovered pictures differ most, whatever they show, count less.

A head that sees five pictures cannot know that half of what they differ by is, say, brightness. The pictures recovered
from the teachers can tell: the penalty on a classifier's weights w becomes |w|^2 plus, divided by a constant, the
variance of w's scores over them, Tikhonov's regularization (1963) with identity and covariance in the place of the
identity. That is the same as fitting a head to features that are multiplied by the root of its inverse, so it serves
every head; heads bring the support features to length 1 again, queries keep the length they get. Where teachers are
weighed (`hf_free.learner.gating`), the scores meant are those of the weighed features, as if recovered pictures'
variance did not change by it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hf_free.errors import LearnerError
from hf_free.learner.format import load_strictly
from hf_free.learner.full_precision import in_full_precision

DIRECTIONS = 64
"""Most directions that are whitened; those of less variance would hardly change (docs/experiments)."""

MIN_IMAGES = 100
"""Fewest pictures to fit on. At a half of 60, chance alone scales the strongest of 700 dimensions by 0.90 with 100
pictures, by 0.75 with 20."""

LEAST_LEVEL = 0.03
"""Least variance, in mean variances, from which on directions are whitened by half and more: features of which few
vary would otherwise keep nothing but their noise."""


class Whitening(nn.Module):
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
        dimensions, and all by one number, so that the features keep a mean squared length of 1, as heads expect.
        """
        variances, mean = self._find_directions(features)
        self._damp(features, variances, half * mean)

    @torch.no_grad()
    def fit_to_rank(self, features: Tensor, rank: int) -> float:
        """Learn from the features (N, D) of pictures, as `fit` does, with the variance of one direction in the place
        of half * m: that of this rank, the strongest first, but at least `LEAST_LEVEL` * m.

        Args:
            features: They.
            rank: From 1 to the number of directions; a larger one is taken for that.

        Returns:
            That variance, in mean variances.
        """
        variances, mean = self._find_directions(features)
        level = torch.maximum(variances[-min(rank, len(variances))], LEAST_LEVEL * mean)
        self._damp(features, variances, level)
        return float(level / mean)

    def _find_directions(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Keep the strongest directions; their variances (K,), the strongest last, and the mean over all dimensions.

        Where there are fewer pictures than dimensions, their inner products have the variances, and it is from these
        that the directions are found: many teachers' answers have too many dimensions for their square.
        """
        seen = features.double().cpu()
        centered = seen - seen.mean(0)
        is_wide = len(centered) < centered.shape[1]
        product = (centered @ centered.T if is_wide else centered.T @ centered) / len(centered)
        strongest = [len(product) - len(self.factors), len(product) - 1]
        from scipy.linalg import eigh  # slow to import

        variances, vectors = map(torch.from_numpy, eigh(product.numpy(), subset_by_index=strongest))
        if is_wide:
            vectors = F.normalize(centered.T @ vectors, dim=0)
        self.directions.copy_(vectors.T)
        return variances.clamp_min(0), product.trace().clamp_min(1e-30) / centered.shape[1]

    def _damp(self, features: Tensor, variances: Tensor, level: Tensor) -> None:
        """Multiply a direction of variance v by 1 / sqrt(1 + v / level), and all by one number."""
        self.factors.copy_((1 + variances / level).rsqrt())
        self.scale.fill_(1)
        seen = features.double().cpu()
        self.scale.copy_(self(seen.float()).double().square().sum(1).mean().clamp_min(1e-30).rsqrt())

    @in_full_precision
    def forward(self, features: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        along = features @ self.directions.T
        return (features - (along * (1 - self.factors)) @ self.directions) * self.scale

    @in_full_precision
    def log_length(self, features: Tensor, sharpness: Tensor) -> Tensor:
        """Logarithm of the length of features (B, D) that are whitened further: (B,).

        Args:
            features: Not whitened yet.
            sharpness: By how much variances count for more: a direction is multiplied by 1 / sqrt(1 + sharpness * v /
                level) where `forward` has 1 / sqrt(1 + v / level). The common factor is left out.
        """
        along = features @ self.directions.T
        further = 1 + sharpness * (self.factors.square().reciprocal() - 1)
        left = (features - along @ self.directions).square().sum(1)
        return 0.5 * (left + (along.square() / further).sum(1)).clamp_min(1e-16).log()


def rebuild_whitening(count: object, width: int, tensors: dict[str, Tensor], source: str) -> Whitening:
    """The whitening that a learner's repository holds.

    Raises:
        LearnerError: a number of directions that cannot be, or tensors that do not fit.
    """
    if type(count) is not int or not 0 < count <= width:
        raise LearnerError(f"{source} whitens {count!r} directions", allowed=f"1 to {width}, its features' width")
    damping = Whitening(count, width)
    load_strictly(damping, tensors, source)
    return damping
