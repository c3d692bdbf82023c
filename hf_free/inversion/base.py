"""What every way to invert a teacher shares: whose classes are wanted, and the student."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

Student = Callable[[Tensor, int], Tensor]
"""The meta-learner's answer for one teacher: (pictures in [0, 1], teacher index) -> logits (B, n)."""


class InversionTarget(NamedTuple):
    """What one inversion is asked for: latents' labels and the teacher's classes they stand for."""

    labels: Tensor
    classes: tuple[int, ...]
