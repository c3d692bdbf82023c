"""Inversion by answers alone: gradients estimated from how a teacher's answers differ (BiDf-MKD, ICML 2023).

A generator that starts from random weights serves one teacher, as `hf_free.inversion.per_teacher_generator`'s does. In
place of the teacher's gradient it follows an estimate, from forward differences in random directions (Nesterov &
Spokoiny 2017, section 2). A black box sees pictures of 8 bits: steps that are smaller than a gray level would vanish
on the way, so its directions are random signs, and each pixel moves by whole levels.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_free.config.sections import FiveConfig, QueriesConfig
from hf_free.data.augment import shift_and_flip
from hf_free.errors import HubError, QueryBudgetError
from hf_free.inversion.base import (
    INVERSION,
    InversionTarget,
    KeepsNothing,
    Share,
    Student,
    Terms,
    gathered,
    mean_terms,
    recover_if_it_fits,
    targets_for,
)
from hf_free.inversion.generator import MetaGenerator, start_afresh
from hf_free.inversion.task import RecoveredTask, failed_task
from hf_free.runtime.chains import ONE_CHAIN, Chains
from hf_free.runtime.device import Precision
from hf_free.runtime.random_streams import GLOBAL, UNSEEDED, RandomStreams, Stream
from hf_free.runtime.text import count_text
from hf_free.teachers.black_box import GRAY_LEVELS, BlackBox
from hf_free.teachers.teacher import Teacher

logger = logging.getLogger(__name__)

BETAS = (0.5, 0.999)
"""Of Adam (DAFL; BiDf-MKD's code)."""

PICTURES_AT_ONCE = 2048
"""About how many pictures' losses are asked for in one call; BiDf-MKD's code goes in five rounds of 20 directions."""

MORE_QUERIES = "a higher --query-budget"
"""The way out where queries are not enough."""

SERVER_FAILED = "its server has failed: see to that it answers, and try again"
"""The way out where an endpoint does not answer any more."""

PixelLoss = Callable[[Tensor, Tensor], Tensor]
"""Pictures (M, C, H, W) in [0, 1], and which base picture each is a variant of (M,) -> the loss of each (M,)."""


@dataclass(frozen=True)
class Estimate:
    """A loss and its estimated gradient at some pictures."""

    losses: Tensor
    """(N,) the loss at the pictures themselves."""
    gradients: Tensor
    """(N, C, H, W) the gradient, of each picture by itself."""
    asked: Tensor
    """(N, C, H, W) the pictures as they were asked about: on the gray levels, where there are any."""


@torch.no_grad()
def estimate_gradients(
    loss_of: PixelLoss,
    pictures: Tensor,
    *,
    directions: int,
    smoothing: float,
    levels: int | None = None,
    stream: Stream = GLOBAL,
) -> Estimate:
    """Zero-order gradients: g = (d / q) sum_i u_i (L(x + mu u_i) - L(x)) / mu over q directions of length 1.

    With E[u u'] = I / d its mean is the gradient up to O(mu), and its mean squared error (d - 1) / q times the squared
    gradient: uniform directions on the sphere (BiDf-MKD's code) and signs / sqrt(d) alike.

    Args:
        loss_of: The loss of each picture, which is asked N (1 + q) times.
        pictures: (N, C, H, W) in [0, 1]; d = C H W.
        directions: q, drawn for each picture by itself.
        smoothing: mu, in pixels of [0, 1].
        levels: Gray levels that pictures are rounded to on their way; None: none. Directions are signs then, and a
            pixel moves by the whole levels that come next to mu / sqrt(d), one at least; pictures are kept that far
            inside [0, 1].
        stream: Random numbers for the directions.
    """
    count, size = len(pictures), pictures[0].numel()
    device, generator = pictures.device, stream.on(pictures.device)
    if levels is not None:
        step = max(1, round(levels * smoothing / math.sqrt(size))) / levels
        smoothing = step * math.sqrt(size)
        pictures = ((pictures * levels).round() / levels).clamp(step, 1 - step)
    base = loss_of(pictures, torch.arange(count, device=device))
    gradients = torch.zeros_like(pictures)
    at_once = max(1, PICTURES_AT_ONCE // count)
    for start in range(0, directions, at_once):
        several = min(at_once, directions - start)
        drawn = torch.randn((several, *pictures.shape), device=device, generator=generator)
        if levels is None:
            drawn = drawn / drawn.flatten(2).norm(dim=2).view(several, count, 1, 1, 1)
        else:
            drawn = torch.where(drawn < 0, -1.0, 1.0) / math.sqrt(size)
        which = torch.arange(count, device=device).repeat(several)
        losses = loss_of((pictures + smoothing * drawn).flatten(0, 1), which).view(several, count)
        gradients += torch.einsum("qn,qnchw->nchw", (losses - base) / smoothing, drawn)
    return Estimate(base, gradients * size / directions, pictures)


class ZeroOrderInverter(KeepsNothing):
    """Recovers tasks from teachers that only answer; teachers with weights are asked the same way.

    Args:
        config: Sizes, rates, steps and the weights `cross_entropy` and `adversarial`; all other terms of the inversion
            loss need to look inside a teacher.
        queries: How many directions, and how long they are.
        image_size: Height and width of recovered pictures.
        channels: 1 or 3.
        device: Where it computes.
        precision: Autocast type and memory format of the generator.
        sets: Tasks that are recovered from each teacher, one after the other, each by a generator of its own. Of two,
            the second alone has the adversarial term (BiDf-MKD: support, then boundary queries).
        streams: Where random numbers come from.
        chains: The parts of a step's work.
    """

    needs_gradients = False

    def __init__(
        self,
        config: FiveConfig,
        queries: QueriesConfig,
        *,
        image_size: int,
        channels: int = 3,
        device: torch.device | str = "cpu",
        precision: Precision | None = None,
        sets: int = 1,
        streams: RandomStreams = UNSEEDED,
        chains: Chains = ONE_CHAIN,
    ) -> None:
        self.config, self.queries, self.sets = config, queries, sets
        self.image_size, self.channels = image_size, channels
        self.device, self.precision = torch.device(device), precision or Precision()
        self.streams, self.chains = streams, chains
        self.most_images: int | None = None
        self.pause: Callable[[], None] = lambda: None
        self.adapt: Callable[[RecoveredTask], Student] | None = None
        """Makes the student of a teacher's last set of its first; None: the student is the learner as it is."""

    def step_shares(
        self, shares: Sequence[Share], student: Student | None = None
    ) -> tuple[list[RecoveredTask], dict[str, float]]:
        """The same for all chains of a run; see `hf_free.inversion.base.Inverter`."""
        found: list[list[tuple[RecoveredTask, Terms]]] = []
        for _, share in zip(self.chains.each(), shares, strict=True):
            found.append([])
            for index, teacher in share.teachers:
                own: list[tuple[RecoveredTask, Terms]] = []
                for number in range(self.sets):
                    asked = None if number < self.sets - 1 else student
                    if asked is not None and own and self.adapt is not None:
                        asked = self.adapt(own[0][0])
                    own.append(self._recover(teacher, index, asked, self.config.inner_steps, number))
                found[-1] += own
        pairs = gathered(found, self.chains)
        return [task for task, _ in pairs], mean_terms([terms for _, terms in pairs])

    def recover(
        self,
        teacher: Teacher,
        index: int = 0,
        student: Student | None = None,
        *,
        steps: int | None = None,
        donor: Teacher | None = None,
    ) -> RecoveredTask:
        """Recover one task; see `hf_free.inversion.base.Inverter`. A donor has nothing to lend here."""
        return self._recover(teacher, index, student, steps or self.config.inner_steps, 0)[0]

    def cost(self, teacher: Teacher, steps: int | None = None) -> int:
        """Queries that recovering one task takes: each picture and its variants in each step, and the finished
        pictures."""
        images = self.task_size(teacher).images
        return images * (steps or self.config.inner_steps) * (1 + self.queries.directions) + images

    def _recover(
        self, teacher: Teacher, index: int, student: Student | None, steps: int, number: int
    ) -> tuple[RecoveredTask, Terms]:
        """One task and its last loss terms; a task with a problem where queries, memory or the endpoint fail."""
        problem = self._beyond_budget(teacher, steps)
        if problem is not None:
            return failed_task(teacher, index, problem, MORE_QUERIES), {}
        try:
            return recover_if_it_fits(
                lambda _: self._train(teacher, index, student, steps, number), teacher, index, None
            )
        except QueryBudgetError as error:
            return failed_task(teacher, index, error.given, MORE_QUERIES), {}
        except HubError as error:
            return failed_task(teacher, index, error.given, error.action or SERVER_FAILED), {}

    def _beyond_budget(self, teacher: Teacher, steps: int) -> str | None:
        """Why an inversion is not begun: half an inversion is worth nothing."""
        left = teacher.oracle.budget.left if isinstance(teacher, BlackBox) else None
        cost = self.cost(teacher, steps)
        if left is None or cost <= left:
            return None
        return f"its inversion takes {count_text(cost)} queries, and {count_text(left)} are left"

    def _train(
        self, teacher: Teacher, index: int, student: Student | None, steps: int, number: int
    ) -> tuple[Tensor, InversionTarget, Terms]:
        config, stream = self.config, self.streams.stream(INVERSION, index)
        target = targets_for(teacher, self.task_size(teacher), self.device, stream)
        generator = self._new_generator(index, number)
        drawn = torch.randn(
            len(target.labels), config.latent_dim, device=self.device, generator=stream.on(self.device)
        )
        latents, weights = drawn.requires_grad_(), list(generator.parameters())
        groups: list[dict[str, object]] = [{"params": weights}, {"params": [latents], "lr": config.latent_lr}]
        optimizer = torch.optim.Adam(groups, lr=config.inner_lr, betas=BETAS, fused=True)
        best, least, terms = torch.empty(0), math.inf, dict[str, Tensor]()
        for _ in range(steps):
            self.pause()
            optimizer.zero_grad(set_to_none=True)
            with self.precision.autocast(self.device):
                pictures = generator(latents, target.labels)
            seen = shift_and_flip(pictures, flip=config.flip, stream=stream) if config.augment else pictures
            loss_of = _AnswerLoss(config, teacher, index, target, student)
            found = estimate_gradients(
                loss_of,
                seen.detach(),
                directions=self.queries.directions,
                smoothing=self.queries.smoothing,
                levels=GRAY_LEVELS if isinstance(teacher, BlackBox) else None,
                stream=stream,
            )
            terms = loss_of.terms
            loss = found.losses.mean().item()
            if loss < least:
                best, least = pictures.detach(), loss
            (seen * found.gradients).sum().div(len(seen)).backward(inputs=[*weights, latents])
            optimizer.step()
        return best, target, terms

    def _new_generator(self, index: int, number: int) -> MetaGenerator:
        config = self.config
        slots = config.max_classes if config.conditional else 0
        with self.streams.seeding("generator", 2 * index + number):
            generator = MetaGenerator(self.image_size, self.channels, config.latent_dim, config.width, slots)
            start_afresh(generator)
        generator.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return generator


class _AnswerLoss:
    """The loss of an inversion by answers, for each picture by itself; see `PixelLoss`."""

    def __init__(
        self, config: FiveConfig, teacher: Teacher, index: int, target: InversionTarget, student: Student | None
    ) -> None:
        self._config, self._teacher, self._index, self._target = config, teacher, index, target
        self._count, self._classes = teacher.record.num_classes, list(target.classes)
        is_small = self._count <= config.max_classes
        self._student = student if config.adversarial and is_small else None
        self.terms: Terms = {}
        """The mean terms of the first call, which is about the pictures themselves."""

    def __call__(self, pictures: Tensor, which: Tensor) -> Tensor:
        logits = self._teacher.logits(pictures)[:, self._classes].float()
        terms = {"cross_entropy": F.cross_entropy(logits, self._target.labels[which], reduction="none")}
        if self._student is not None:
            answer = self._student(pictures, self._index)[:, : self._count]
            if answer.shape[1] == self._count:  # else the student answers for fewer classes than the teacher has
                terms["adversarial"] = boundary(logits, answer[:, self._classes])
        self.terms = self.terms or {name: losses.mean() for name, losses in terms.items()}
        weights = {"cross_entropy": self._config.cross_entropy, "adversarial": self._config.adversarial}
        return torch.stack([weights[name] * losses for name, losses in terms.items()]).sum(0)


def boundary(teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    """BiDf-MKD's boundary term of each picture: minus the L1 distance of the logits, where both name the same class.

    Pictures that lower it lie where the student is still far from the teacher, near the boundaries that it has not
    learned. Both are centered: logits that are logarithms of probabilities are known up to a shift.

    Args:
        teacher_logits: (B, n).
        student_logits: (B, n).

    Returns:
        (B,), the sum over the n logits, as its code takes it.
    """
    teacher, student = (
        logits - logits.mean(1, keepdim=True) for logits in (teacher_logits.float(), student_logits.float())
    )
    agree = teacher.argmax(1) == student.argmax(1)
    return -(teacher - student).abs().sum(1) * agree
