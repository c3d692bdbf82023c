"""The pixels themselves are optimized, as in DeepInversion.

FIVE's loss, labels, number of pictures, augmentation and precision are shared, so that a comparison is about the way
of inverting alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hf_free.config.recipes import Defects
from hf_free.config.sections import FiveConfig
from hf_free.inversion.base import (
    INVERSION,
    InversionTarget,
    InvertsEach,
    Student,
    Terms,
    targets_for,
)
from hf_free.inversion.inversion_loss import InversionLoss
from hf_free.provenance.teacher_record import TeacherRecord
from hf_free.runtime.chains import ONE_CHAIN, Chains
from hf_free.runtime.device import Precision
from hf_free.runtime.random_streams import UNSEEDED, RandomStreams
from hf_free.teachers.teacher import Teacher

PIXEL_STEPS = 1000
"""Steps of optimizing pixels (DeepInversion, Yin et al. 2020; PURER, Hu et al. 2023)."""

PIXEL_LR = 0.1
"""Adam's rate on normalized pixels: `--di_lr` of DeepInversion's public code for CIFAR-10."""


class PixelInverter(InvertsEach):
    """Recovers tasks by optimizing their pixels; nothing is learned from one teacher for the next.

    As DeepInversion does: normal noise in the teacher's normalized space, Adam, values kept to those that a picture
    can have. Its total variation and squared norm are left out, so that all methods share one loss.

    Args:
        config: Loss weights and sizes; the canvas and the rates of a generator are not used.
        image_size: Height and width of recovered pictures.
        channels: 1 or 3.
        device: Where it computes.
        precision: Autocast type and memory format.
        defects: Defects of the released FREE code to reproduce in the loss; None for none.
        steps: Steps of Adam.
        lr: Its rate.
        streams: Where random numbers come from.
        chains: The parts of a step's work.
    """

    def __init__(
        self,
        config: FiveConfig,
        *,
        image_size: int,
        channels: int = 3,
        device: torch.device | str = "cpu",
        precision: Precision | None = None,
        defects: Defects | None = None,
        steps: int = PIXEL_STEPS,
        lr: float = PIXEL_LR,
        streams: RandomStreams = UNSEEDED,
        chains: Chains = ONE_CHAIN,
    ) -> None:
        self.config, self.image_size, self.channels, self.steps, self.lr = config, image_size, channels, steps, lr
        self.device, self.precision, self.streams = torch.device(device), precision or Precision(), streams
        self.chains = chains
        self.loss = InversionLoss(config, device=self.device, precision=self.precision, defects=defects)
        self.most_images: int | None = None
        self.pause: Callable[[], None] = lambda: None

    def invert(
        self, teacher: Teacher, index: int, student: Student | None, donor: Teacher | None, steps: int
    ) -> tuple[Tensor, InversionTarget, Terms]:
        """See `InvertsEach.invert`: by optimizing the pixels."""
        stream = self.streams.stream(INVERSION, index)
        target = targets_for(teacher, self.task_size(teacher), self.device, stream)
        mean, std = colors_of(teacher.record, self.channels, self.device)
        shape = (len(target.labels), self.channels, self.image_size, self.image_size)
        values = torch.randn(shape, device=self.device, generator=stream.on(self.device))
        values = self.precision.layout(values).requires_grad_()
        optimizer = torch.optim.Adam([values], lr=self.lr, fused=True)
        with torch.no_grad():
            keep_possible(values, mean, std)
        terms: Terms = {}
        for _ in range(steps):
            self.pause()
            optimizer.zero_grad(set_to_none=True)
            terms = self.loss.terms(values * std + mean, target, teacher, index, student, donor, stream=stream)
            with teacher.failing_by_name():
                self.loss.total(terms).backward(inputs=[values])  # a student's weights want no gradients here
            optimizer.step()
            with torch.no_grad():
                keep_possible(values, mean, std)
        return values.detach() * std + mean, target, {name: term.detach() for name, term in terms.items()}


def colors_of(record: TeacherRecord, channels: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """A teacher's mean and deviation for pictures of so many channels, (1, channels or 1, 1, 1)."""
    mean, std = (torch.tensor(values, device=device).view(1, -1, 1, 1) for values in (record.mean, record.std))
    if mean.shape[1] == channels:
        return mean, std
    return mean.mean().view(1, 1, 1, 1), std.mean().view(1, 1, 1, 1)


def keep_possible(values: Tensor, mean: Tensor, std: Tensor) -> None:
    """Clip normalized values in place to those of pictures in [0, 1] (`do_clip` of DeepInversion's public code)."""
    torch.maximum(values, -mean / std, out=values)
    torch.minimum(values, (1 - mean) / std, out=values)
