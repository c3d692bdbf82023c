"""The pixels themselves are optimised, as in DeepInversion.

FIVE's loss (`Five.total_loss`), labels, number of pictures, augmentation and precision are shared, so that a
comparison is one of the ways alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hf_free.inversion.five import Five
from hf_free.inversion.task import RecoveredTask, finish_task
from hf_free.teachers.teacher import Teacher

PIXEL_STEPS = 1000
"""Steps of optimising pixels (DeepInversion, Yin et al. 2020; PURER, Hu et al. 2023)."""

PIXEL_LR = 0.1
"""Adam's rate on normalised pixels: `--di_lr` of DeepInversion's public code for CIFAR-10."""


def pixel_task(
    five: Five, teacher: Teacher, index: int = 0, *, steps: int = PIXEL_STEPS, lr: float = PIXEL_LR
) -> RecoveredTask:
    """Recover a task by optimising its pixels; of `five` the loss, the labels and the sizes are used.

    As DeepInversion does: normal noise in the teacher's normalised space, Adam, values kept to those that a picture
    can have. Its total variation and squared norm are left out, for all methods are to share one loss.
    """
    wanted = five.targets_for(teacher)
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


def _colours(teacher: Teacher, channels: int) -> tuple[Tensor, Tensor]:
    """The teacher's mean and deviation for pictures of so many channels, (1, channels or 1, 1, 1)."""
    if teacher.mean.shape[1] == channels:
        return teacher.mean, teacher.std
    return teacher.mean.mean().view(1, 1, 1, 1), teacher.std.mean().view(1, 1, 1, 1)


def _keep_possible(values: Tensor, mean: Tensor, std: Tensor) -> None:
    """Clip normalised values in place to those of pictures in [0, 1] (`do_clip` of DeepInversion's public code)."""
    torch.maximum(values, -mean / std, out=values)
    torch.minimum(values, (1 - mean) / std, out=values)
