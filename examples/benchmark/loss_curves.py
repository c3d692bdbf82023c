"""FIVE beside its peers: other ways to come by a generator, and the inversion loss of every inner step.

All share FIVE's loss (`InversionLoss.total`), labels, number of pictures, augmentation and precision, so that a
comparison is one of the ways alone: a generator of its own for each teacher, the pixels themselves, or a generator
that was trained on all teachers without an inner loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hf_free.inversion.base import Student
from hf_free.inversion.five import Five
from hf_free.inversion.inversion_loss import InversionLoss
from hf_free.inversion.losses import cross_entropy, weighted_sum
from hf_free.teachers.teacher import Teacher


def bare_step(five: Five, labels: Tensor, teacher: Teacher, student: Student | None = None) -> Callable[[], None]:
    """What an inner step costs at least: one forward and backward pass of generator and teacher, and of the student.

    No prior, no augmentation, no canvas, no optimizer; the teacher is frozen, and so should the student be.

    Args:
        five: Its generator and precision are used.
        labels: (N,) classes wanted of the pictures.
        teacher: Whose cross-entropy is minimized.
        student: Asked about the same pictures, if given.

    Returns:
        A function that does it once.
    """
    generator, latents = five.generator, torch.randn(len(labels), five.config.latent_dim, device=five.device)
    latents.requires_grad_()

    def step() -> None:
        generator.zero_grad(set_to_none=True)
        latents.grad = None
        with five.precision.autocast(five.device):
            pictures = five.precision.layout(generator(latents, labels))
            losses = [cross_entropy(teacher.logits(pictures), labels)]
            if student is not None:
                losses.append(cross_entropy(student(pictures, 0), labels))
        torch.stack(losses).sum().backward()

    return step


def joint_step(five: Five, teachers: Sequence[tuple[int, Teacher]]) -> None:
    """Train the generator one step on several teachers' losses at once, without an inner loop.

    This is the outer step of a FIVE whose inner loop has one step: the gradient at the shared weights.

    Args:
        five: Its configuration has `inner_steps=1`.
        teachers: (index in the pool, teacher).

    Raises:
        ValueError: a configuration with an inner loop.
    """
    if five.config.inner_steps != 1:
        raise ValueError(f"inner_steps={five.config.inner_steps}; allowed: 1, which is no inner loop")
    five.step(teachers)


class WatchedLoss(InversionLoss):
    """An inversion loss that remembers its values, all terms with their full weights.

    The factor of `InversionLoss.total` rises with recognition: by it a start that convinces nobody would look best.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.seen: list[Tensor] = []

    def terms(self, *args: Any, **options: Any) -> dict[str, Tensor]:
        """As `InversionLoss.terms`."""
        terms = super().terms(*args, **options)
        self.seen.append(weighted_sum(terms, self.weights).detach())
        return terms


class WatchedFive(Five):
    """FIVE that remembers the inversion loss of every inner step."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.watched = WatchedLoss(self.config, device=self.device, precision=self.precision, defects=self.defects)
        self.loss = self.watched

    def loss_curve(self, teacher: Teacher, index: int = 0, *, steps: int) -> list[float]:
        """The inversion loss after 0, 1, ..., `steps` inner steps for a teacher -> `steps` + 1 numbers."""
        self.watched.seen.clear()
        self.adapt(teacher, index, steps=steps + 1)  # a step's loss is that before its update
        return torch.stack(self.watched.seen).tolist()


def mean_curve(curves: Sequence[Sequence[float]]) -> list[float]:
    """The mean of several curves of one length, step by step."""
    return torch.tensor(curves, dtype=torch.float64).mean(0).tolist()


def steps_to_match(curve: Sequence[float], target: float) -> int | None:
    """The first step at which a curve is at most `target`; None if it never is."""
    return next((step for step, loss in enumerate(curve) if loss <= target), None)
