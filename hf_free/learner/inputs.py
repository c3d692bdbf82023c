"""How a learner sees images: views, normalization, and whose statistics BatchNorm uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from hf_free.data.images import VIEWS
from hf_free.errors import LearnerError
from hf_free.learner.batchnorm import BatchNormMode

DEFAULT_MEAN, DEFAULT_STD = 0.5, 0.25
"""Normalization where none is given: near the channel means (0.44 to 0.51) and deviations (0.26 to 0.28) of CIFAR's
natural pictures."""


@dataclass(frozen=True)
class InputSettings:
    """How an embedder sees images.

    Attributes:
        views: Test-time views whose features are averaged, names from `hf_free.data.images.VIEWS`.
        mean: Mean per channel that images in [0, 1] are normalized with; None takes `DEFAULT_MEAN`, or that of the
            weights a learner starts from.
        std: Deviation per channel, likewise.
        batchnorm: Which statistics BatchNorm uses when embedding, see `BatchNormMode`.

    Raises:
        LearnerError: a view or BatchNorm mode that does not exist.
    """

    views: Sequence[str] = ("identity",)
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    batchnorm: BatchNormMode = "running"

    def __post_init__(self) -> None:
        if not self.views or any(name not in VIEWS for name in self.views):
            raise LearnerError(f"views {list(self.views)}", allowed=f"one or more of {', '.join(VIEWS)}")
        if self.batchnorm not in get_args(BatchNormMode):
            raise LearnerError(f"batchnorm={self.batchnorm!r}", allowed=", ".join(get_args(BatchNormMode)))

    def normalization(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of each of so many channels."""
        return tuple(self.mean or (DEFAULT_MEAN,) * channels), tuple(self.std or (DEFAULT_STD,) * channels)
