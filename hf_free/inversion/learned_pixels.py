"""Pixels of every teacher that are kept and learned throughout a run, as PURER does.

PURER (Hu et al., CVPR 2023) holds a small data set of each teacher as parameters and moves all of them by one step of
one Adam before each update of the learner; so the learner sees pictures that become better, and that can be made
harder for it (`LearnedPixels.challenge`). Constants and loss are those of its code (Egg-Hu/PURER at commit 6d62ccd,
tool.py): norms, not squares, over the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from hf_free.config.sections import FiveConfig
from hf_free.inversion.base import (
    INVERSION,
    InversionTarget,
    NoTask,
    Share,
    StepsAlone,
    Student,
    TaskSize,
    Terms,
    mean_terms,
    recover_if_it_fits,
    targets_among,
    why_not,
)
from hf_free.inversion.batchnorm_statistics import collected_distances, statistics_norms
from hf_free.inversion.differentiable import NoGradientError, check_gradient
from hf_free.inversion.losses import cross_entropy, neighbor_norms
from hf_free.inversion.pixels import colors_of, keep_possible
from hf_free.inversion.task import RecoveredTask, failed_task, finish_task
from hf_free.provenance.teacher_record import TeacherRecord
from hf_free.runtime.device import Precision
from hf_free.runtime.memory_order import keep_memory_order
from hf_free.runtime.random_streams import UNSEEDED, RandomStreams, Stream
from hf_free.teachers.teacher import Teacher

JITTER = 2
"""Pixels that a batch is shifted by at most, around the edges, before the teacher sees it [tool.py]."""

NORM_WEIGHT = 1e-5
"""Weight of the pixels' norm [tool.py]."""


class LivePictures(NamedTuple):
    """Pictures of one teacher through which gradients flow."""

    teacher: int
    """Its index in the pool."""
    images: Tensor
    """(N, C, H, W) in [0, 1]."""
    labels: Tensor
    """(N,), positions in `classes`."""
    classes: tuple[int, ...]
    """The teacher's classes that they stand for."""


class Challenge(Protocol):
    """What a learner wants of live pictures, besides what the teachers want."""

    def __call__(self, live: Sequence[LivePictures], stream: Stream) -> Tensor | None:
        """A loss that the pictures should lower; None for none."""


class PixelSet(nn.Module):
    """The pixels of one teacher.

    Args:
        values: (N, C, H, W) in the teacher's normalized space.
        target: What the pictures are made for.
    """

    labels: Tensor
    chosen: Tensor

    def __init__(self, values: Tensor, target: InversionTarget) -> None:
        super().__init__()
        self.values = nn.Parameter(values)
        self.register_buffer("labels", target.labels)
        self.register_buffer("chosen", torch.tensor(target.classes))

    @property
    def target(self) -> InversionTarget:
        """What the pictures are made for."""
        return InversionTarget(self.labels, tuple(self.chosen.tolist()))


class LearnedPixels(StepsAlone):
    """Recovers tasks from pixels that are kept and learned from step to step.

    Until it has met the teachers of a run it keeps nothing: each task then starts from noise.

    Args:
        config: Data steps per outer step (`inner_steps`), `pixel_lr`, sizes, and the weights of cross-entropy,
            BatchNorm and total variation; the rest is not used.
        image_size: Height and width of recovered pictures.
        channels: 1 or 3.
        device: Where it computes.
        precision: Autocast type and memory format.
        streams: Where random numbers come from.
    """

    needs_gradients = True

    def __init__(
        self,
        config: FiveConfig,
        *,
        image_size: int,
        channels: int = 3,
        device: torch.device | str = "cpu",
        precision: Precision | None = None,
        streams: RandomStreams = UNSEEDED,
    ) -> None:
        self.config, self.image_size, self.channels = config, image_size, channels
        self.device, self.precision, self.streams = torch.device(device), precision or Precision(), streams
        self.most_images: int | None = None
        self.pause: Callable[[], None] = lambda: None
        self.challenge: Challenge | None = None
        """The learner's wish, asked for in each data step."""
        self._sets = nn.ModuleList()
        self._optimizer: torch.optim.Optimizer | None = None

    def meet(self, records: Sequence[TeacherRecord]) -> None:
        """Make pixels for all teachers of a run, in the order of their indices; earlier ones are forgotten."""
        self._sets = nn.ModuleList([self._new_set(record, index) for index, record in enumerate(records)])
        self._optimizer = self._adam(self._sets)

    def step_shares(
        self, shares: Sequence[Share], student: Student | None = None
    ) -> tuple[list[RecoveredTask], dict[str, float]]:
        """As `step`; a run with learned pixels has one chain. See `hf_free.inversion.base.Inverter`."""
        everyone = [pair for share in shares for pair in share.teachers]
        kept = [self._set_of(index, teacher) for index, teacher in everyone]
        is_met = all(index < len(self._sets) for index, _ in everyone)
        optimizer = self._optimizer if is_met and self._optimizer is not None else self._adam(nn.ModuleList(kept))
        rows = [self._rows(index, teacher, own) for (index, teacher), own in zip(everyone, kept, strict=True)]
        found: dict[int, Terms] = {}
        failed: dict[int, NoTask] = {}
        for _ in range(self.config.inner_steps):
            optimizer.zero_grad(set_to_none=True)
            for place, (index, teacher) in enumerate(everyone):
                if place in failed:
                    continue
                self.pause()
                try:
                    found[place] = self._descend(kept[place], rows[place], teacher, index)
                except (MemoryError, RuntimeError, NoGradientError) as error:
                    if (problem := why_not(error)) is None:
                        raise
                    kept[place].values.grad = None
                    found.pop(place, None)
                    failed[place] = problem
            able = [place for place in range(len(everyone)) if place not in failed]
            self._follow_challenge([(*everyone[place], kept[place], rows[place]) for place in able])
            optimizer.step()
            for place in able:
                self._clip(kept[place], everyone[place][1])
        tasks = []
        for place, (index, teacher) in enumerate(everyone):
            if place in failed:
                tasks.append(failed_task(teacher, index, *failed[place]))
                continue
            shown = partial(self._shown, kept[place], rows[place], teacher, found[place])
            tasks.append(recover_if_it_fits(shown, teacher, index, None)[0])
        return tasks, mean_terms(list(found.values()))

    def recover(
        self,
        teacher: Teacher,
        index: int = 0,
        student: Student | None = None,
        *,
        steps: int | None = None,
        donor: Teacher | None = None,
    ) -> RecoveredTask:
        """A task after further steps on a copy of the pixels; see `hf_free.inversion.base.Inverter`."""
        known = self._set_of(index, teacher)
        own = PixelSet(known.values.detach().clone(), known.target).to(self.device)
        rows, optimizer = self._rows(index, teacher, own), self._adam(nn.ModuleList([own]))
        for _ in range(steps or self.config.inner_steps):
            self.pause()
            optimizer.zero_grad(set_to_none=True)
            self._descend(own, rows, teacher, index)
            optimizer.step()
            self._clip(own, teacher)
        images, target, _ = self._shown(own, rows, teacher, {})
        return finish_task(images, target.labels, target.classes, teacher, index)

    def compile(self) -> None:
        """There is nothing to compile."""

    def modules(self) -> dict[str, nn.Module]:
        """The pixels, once the teachers are met."""
        return {"pixels": self._sets} if len(self._sets) else {}

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Their Adam."""
        return [] if self._optimizer is None else [self._optimizer]

    def _new_set(self, record: TeacherRecord, index: int) -> PixelSet:
        stream = self.streams.stream(INVERSION, index)
        size = TaskSize.of(self.config, record.num_classes)
        target = targets_among(record.num_classes, size, self.device, stream)
        shape = (len(target.labels), self.channels, self.image_size, self.image_size)
        values = torch.randn(shape, device=self.device, generator=stream.on(self.device))
        with torch.no_grad():
            keep_possible(values, *colors_of(record, self.channels, self.device))
        return PixelSet(values, target).to(self.device)

    def _set_of(self, index: int, teacher: Teacher) -> PixelSet:
        if index < len(self._sets):
            known: PixelSet = self._sets[index]  # type: ignore[assignment]
            return known
        return self._new_set(teacher.record, index)

    def _rows(self, index: int, teacher: Teacher, own: PixelSet) -> Tensor:
        """Which of a set's pictures a step moves: all, or a random part where memory is short; labels in order."""
        size, labels = self.task_size(teacher), own.labels.cpu()
        if size.images >= len(labels):
            return torch.arange(len(labels), device=self.device)
        generator = self.streams.stream(INVERSION, index).on("cpu")
        classes = torch.randperm(len(own.chosen), generator=generator)[: size.classes].sort().values.tolist()
        chosen = []
        for label in classes:
            places = (labels == label).nonzero().flatten()
            chosen.append(places[torch.randperm(len(places), generator=generator)[: size.images_per_class]])
        return torch.stack(chosen, 1).flatten().to(self.device)

    def _adam(self, sets: nn.Module) -> torch.optim.Optimizer:
        return keep_memory_order(torch.optim.Adam(sets.parameters(), lr=self.config.pixel_lr))

    def _descend(self, own: PixelSet, rows: Tensor, teacher: Teacher, index: int) -> Terms:
        """The gradient of one teacher's data loss on its pixels."""
        config, target = self.config, _part_of(own, rows)
        values, stream = own.values[rows], self.streams.stream(INVERSION, index)
        mean, std = colors_of(teacher.record, self.channels, self.device)
        seen = values
        if config.augment:
            shift = torch.randint(-JITTER, JITTER + 1, (2,), generator=stream.on("cpu")).tolist()
            seen = values.roll(shift, (2, 3))
        layers = teacher.batchnorm_layers() if config.batchnorm else []
        with self.precision.autocast(self.device), collected_distances(layers, statistics_norms) as distances:
            logits = teacher.logits(self.precision.layout(seen * std + mean))[:, list(target.classes)]
        check_gradient(values, logits, teacher.record.reference)
        terms: Terms = {"cross_entropy": cross_entropy(logits, target.labels)}
        if config.total_variation:
            terms["total_variation"] = neighbor_norms(seen)  # shifted, as its code takes it
        if distances:
            terms["batchnorm"] = torch.stack(distances).sum()
        weighted = [getattr(config, name) * term for name, term in terms.items()]
        with teacher.failing_by_name():
            (torch.stack(weighted).sum() + NORM_WEIGHT * values.norm()).backward(inputs=[own.values])
        return {name: term.detach() for name, term in terms.items()}

    def _follow_challenge(self, able: Sequence[tuple[int, Teacher, PixelSet, Tensor]]) -> None:
        """Add the gradient of what the learner wants of the pictures."""
        if self.challenge is None or not able:
            return
        live = []
        for index, teacher, own, rows in able:
            target = _part_of(own, rows)
            live.append(LivePictures(index, self._pictures(own, rows, teacher), *target))
        wish = self.challenge(live, self.streams.stream("challenge"))
        if wish is None:
            return
        values = [own.values for _, _, own, _ in able]
        for value, gradient in zip(values, torch.autograd.grad(wish, values, allow_unused=True), strict=True):
            if gradient is not None:
                value.grad = gradient if value.grad is None else value.grad + gradient

    def _pictures(self, own: PixelSet, rows: Tensor, teacher: Teacher) -> Tensor:
        mean, std = colors_of(teacher.record, self.channels, self.device)
        return own.values[rows] * std + mean

    def _shown(
        self, own: PixelSet, rows: Tensor, teacher: Teacher, terms: Terms, donor: Teacher | None = None
    ) -> tuple[Tensor, InversionTarget, Terms]:
        return self._pictures(own, rows, teacher).detach(), _part_of(own, rows), terms

    @torch.no_grad()
    def _clip(self, own: PixelSet, teacher: Teacher) -> None:
        keep_possible(own.values, *colors_of(teacher.record, self.channels, self.device))


def _part_of(own: PixelSet, rows: Tensor) -> InversionTarget:
    """What some of a set's pictures are made for: the classes among them, and labels that count these."""
    target, labels = own.target, own.labels[rows]
    if len(rows) == len(own.labels):
        return target
    present, places = labels.unique(return_inverse=True)
    return InversionTarget(places, tuple(target.classes[place] for place in present.tolist()))
