"""What several teachers say of an image, side by side in one vector, each with the weight it was given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hf_free.learner.full_precision import in_full_precision
from hf_free.learner.values import MAX_WIDTH, demand, is_list_of, whole
from hf_free.learner.whitening import Whitening

TEMPERATURE = 2.0
"""Of the softmax of each teacher's answers: one that is asked about classes it does not know is too sure at 1
(docs/experiments/few-teachers.md)."""

MOST_DIRECTIONS = 256
"""Directions of one teacher's features that are whitened at most, the strongest; a quarter of a megabyte for each 256
features."""


class PooledTeachers(nn.Module):
    """Teachers' features, centred, whitened and of length 1, beside the square roots of their probabilities.

    The square of a weight is the share of a teacher's part in the inner product of two embeddings.

    Args:
        feature_sizes: Width of each teacher's features; 0 where they are left out.
        answer_sizes: Number of each teacher's classes; 0 where its answers are left out.

    Attributes:
        center: (sum of feature sizes) mean features of pictures that are not real, which are subtracted.
        whitenings: One a teacher whose features are there.
        feature_weights: (T,) length of each teacher's features.
        answer_weights: (T,) length of each teacher's square roots of probabilities.
    """

    center: Tensor
    feature_weights: Tensor
    answer_weights: Tensor

    def __init__(self, feature_sizes: Sequence[int], answer_sizes: Sequence[int]) -> None:
        super().__init__()
        self.feature_sizes, self.answer_sizes = tuple(feature_sizes), tuple(answer_sizes)
        self.whitenings = nn.ModuleList(
            Whitening(min(size, MOST_DIRECTIONS), size) for size in self.feature_sizes if size
        )
        self.register_buffer("center", torch.zeros(sum(self.feature_sizes)))
        self.register_buffer("feature_weights", torch.ones(len(self.feature_sizes)))
        self.register_buffer("answer_weights", torch.ones(len(self.answer_sizes)))

    @property
    def width(self) -> int:
        """Width of what goes in and of what comes out."""
        return sum(self.feature_sizes) + sum(self.answer_sizes)

    @in_full_precision
    def forward(self, said: Tensor) -> Tensor:
        """(B, all features, then all logits) -> (B, the same width)."""
        features, logits = said.float().split([sum(self.feature_sizes), sum(self.answer_sizes)], 1)
        centred = iter((features - self.center).split([size for size in self.feature_sizes if size], 1))
        answers = iter(logits.split([size for size in self.answer_sizes if size], 1))
        whitenings, parts = iter(self.whitenings), []
        for size, weight in zip(self.feature_sizes, self.feature_weights, strict=True):
            if size:
                parts.append(weight * F.normalize(next(whitenings)(next(centred)), dim=1, eps=1e-8))
        for size, weight in zip(self.answer_sizes, self.answer_weights, strict=True):
            if size:
                parts.append(weight * F.softmax(next(answers) / TEMPERATURE, 1).sqrt())
        return torch.cat(parts, 1)


def pooled_sizes(features: Sequence[int], answers: Sequence[int]) -> dict[str, list[int]]:
    """What config.json says of the widths of pooled teachers' features and answers."""
    return {"features": list(features), "answers": list(answers)}


def check_pooled_sizes(described: Any, source: str) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Read the widths of pooled teachers' features and answers from config.json; None where there are none.

    Args:
        described: The value of `pooled`.
        source: The learner's name, for errors.

    Raises:
        LearnerError: not two lists of as many whole numbers.
    """
    if described is None:
        return None
    rule = "features and answers, a whole number a teacher each"
    good = isinstance(described, Mapping) and described.keys() == {"features", "answers"}
    demand(good, source, "pooled", described, rule)
    sizes = described["features"], described["answers"]
    good = all(is_list_of(part, whole(0, MAX_WIDTH)) for part in sizes) and len(sizes[0]) == len(sizes[1]) > 0
    demand(good and 0 < sum(map(sum, sizes)) <= MAX_WIDTH, source, "pooled", described, rule)
    return tuple(sizes[0]), tuple(sizes[1])
