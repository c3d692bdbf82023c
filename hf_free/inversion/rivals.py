"""What FIVE is measured against: other ways to recover a task, and other ways to come by a generator.

All share FIVE's loss (`Five.total_loss`), labels, number of pictures, augmentation and precision, so that a comparison
is one of the ways alone: a generator of its own for each teacher, the pixels themselves, or a generator that was
trained on all teachers without an inner loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hf_free.inversion.five import Five, Student
from hf_free.inversion.losses import cross_entropy, weighted_sum
from hf_free.inversion.task import RecoveredTask, finish_task
from hf_free.teachers.teacher import Teacher

FRESH_STEPS = 200
"""Steps of a generator trained for one teacher alone (BiDf-MKD, Hu et al. 2023; TGR)."""

PIXEL_STEPS = 1000
"""Steps of optimising pixels (DeepInversion, Yin et al. 2020; PURER, Hu et al. 2023)."""

PIXEL_LR = 0.1
"""Adam's rate on normalised pixels: `--di_lr` of DeepInversion's public code for CIFAR-10."""


def five_task(five: Five, teacher: Teacher, index: int = 0) -> RecoveredTask:
    """Recover a task in the configuration's inner steps from `five`'s meta-generator."""
    images, wanted, _ = five.adapt(teacher, index)
    return finish_task(images, wanted.labels, wanted.classes, teacher, index)


def fresh_generator_task(five: Five, teacher: Teacher, index: int = 0, *, steps: int = FRESH_STEPS) -> RecoveredTask:
    """Recover a task with a generator that starts from random weights and serves this teacher alone.

    `five`'s generator is used for it, and gets the new random weights: pass one that nobody needs any more.
    """
    renew(five)
    images, wanted, _ = five.adapt(teacher, index, steps=steps)
    return finish_task(images, wanted.labels, wanted.classes, teacher, index)


def pixel_task(
    five: Five, teacher: Teacher, index: int = 0, *, steps: int = PIXEL_STEPS, lr: float = PIXEL_LR
) -> RecoveredTask:
    """Recover a task by optimising its pixels; of `five` the loss, the labels and the sizes are used.

    As DeepInversion does: normal noise in the teacher's normalised space, Adam, values kept to those that a picture
    can have. Its total variation and squared norm are left out, for all methods are to share one loss.
    """
    wanted = five._want(teacher)
    size, channels = five.generator.image_size, five.generator.to_picture.out_channels
    mean, std = _colours(teacher, channels)
    values = torch.randn(len(wanted.labels), channels, size, size, device=five.device)
    values = five.precision.layout(values).requires_grad_()
    optimizer = torch.optim.Adam([values], lr=lr, fused=True)
    with torch.no_grad():
        _keep_possible(values, mean, std)
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        terms = five.loss_terms(values * std + mean, wanted, teacher, index)
        five.total_loss(terms).backward()
        optimizer.step()
        with torch.no_grad():
            _keep_possible(values, mean, std)
    return finish_task(values.detach() * std + mean, wanted.labels, wanted.classes, teacher, index)


def renew(five: Five) -> None:
    """Give the generator new random weights, from torch's random state."""
    five.generator.load_state_dict(_fresh(five).generator.state_dict())


def bare_step(five: Five, labels: Tensor, teacher: Teacher, student: Student | None = None) -> Callable[[], None]:
    """What an inner step costs at least: one forward and backward pass of generator and teacher, and of the student.

    No prior, no augmentation, no canvas, no optimiser; the teacher is frozen, and so should the student be.

    Args:
        five: Its generator and precision are used.
        labels: (N,) classes wanted of the pictures.
        teacher: Whose cross-entropy is minimised.
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
    five.outer_step(teachers)


class WatchedFive(Five):
    """FIVE that remembers the inversion loss of every inner step, all terms with their full weights.

    The factor of `Five.total_loss` rises with recognition: by it a start that convinces nobody would look best.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._seen: list[Tensor] = []

    def loss_terms(self, *args: Any, **options: Any) -> dict[str, Tensor]:
        """As `Five.loss_terms`."""
        terms = super().loss_terms(*args, **options)
        self._seen.append(weighted_sum(terms, self.weights).detach())
        return terms

    def loss_curve(self, teacher: Teacher, index: int = 0, *, steps: int) -> list[float]:
        """The inversion loss after 0, 1, ..., `steps` inner steps for a teacher -> `steps` + 1 numbers."""
        self._seen.clear()
        self.adapt(teacher, index, steps=steps + 1)  # a step's loss is that before its update
        return torch.stack(self._seen).tolist()


def mean_curve(curves: Sequence[Sequence[float]]) -> list[float]:
    """The mean of several curves of one length, step by step."""
    return torch.tensor(curves, dtype=torch.float64).mean(0).tolist()


def steps_to_match(curve: Sequence[float], target: float) -> int | None:
    """The first step at which a curve is at most `target`; None if it never is."""
    return next((step for step, loss in enumerate(curve) if loss <= target), None)


def _fresh(five: Five) -> Five:
    """A FIVE of the same kind that has learned nothing."""
    generator = five.generator
    return Five(
        five.config,
        image_size=generator.image_size,
        channels=generator.to_picture.out_channels,
        device=five.device,
        precision=five.precision,
    )


def _colours(teacher: Teacher, channels: int) -> tuple[Tensor, Tensor]:
    """The teacher's mean and deviation for pictures of so many channels, (1, channels or 1, 1, 1)."""
    if teacher.mean.shape[1] == channels:
        return teacher.mean, teacher.std
    return teacher.mean.mean().view(1, 1, 1, 1), teacher.std.mean().view(1, 1, 1, 1)


def _keep_possible(values: Tensor, mean: Tensor, std: Tensor) -> None:
    """Clip normalised values in place to those of pictures in [0, 1] (`do_clip` of DeepInversion's public code)."""
    torch.maximum(values, -mean / std, out=values)
    torch.minimum(values, (1 - mean) / std, out=values)
