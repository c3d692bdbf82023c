"""What all ways to invert a teacher share: their interface, the size of a task, and its target classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn

from hf_free.config.sections import FiveConfig
from hf_free.inversion.differentiable import NO_GRADIENT, NoGradientError
from hf_free.inversion.task import RecoveredTask, failed_task, finish_task
from hf_free.runtime.chains import Chains
from hf_free.runtime.device import is_out_of_memory
from hf_free.runtime.random_streams import GLOBAL, Stream
from hf_free.teachers.teacher import Teacher

T = TypeVar("T")

Student = Callable[[Tensor, int], Tensor]
"""The meta-learner's answer for one teacher: (pictures in [0, 1], teacher index) -> logits (B, n)."""

Terms = dict[str, Tensor]
"""Named loss terms, each an fp32 scalar."""

OUT_OF_MEMORY = "its inversion needs more memory than there is"
"""Why a teacher too large for the machine is left out."""


class InversionTarget(NamedTuple):
    """Target of one inversion: the labels of its latents and the teacher's classes that they stand for."""

    labels: Tensor
    classes: tuple[int, ...]


class TaskSize(NamedTuple):
    """How many pictures one inversion makes."""

    images_per_class: int
    classes: int

    @classmethod
    def of(cls, config: FiveConfig, num_classes: int) -> TaskSize:
        """What the configuration asks for, for a teacher of so many classes."""
        return cls(config.images_per_class, min(num_classes, config.max_classes))

    @property
    def images(self) -> int:
        """All pictures."""
        return self.images_per_class * self.classes

    def within(self, images: int | None) -> TaskSize:
        """The size with at most so many pictures, None for any number: first with fewer per class, then with fewer
        classes, down to two classes of two pictures.
        """
        if images is None or self.images <= images:
            return self
        each = min(self.images_per_class, max(2, images // self.classes))
        return TaskSize(each, min(self.classes, max(2, images // each)))


class StepsAlone:
    """What every way to invert shares: the size of a task, and `step`, which is `step_shares` with one chain that has
    all the teachers."""

    config: FiveConfig
    most_images: int | None
    """See `Inverter`."""
    at_once: int = 1
    """See `Inverter`."""

    @property
    def inverts_beside(self) -> bool:
        """See `Inverter`."""
        return False

    def task_size(self, teacher: Teacher) -> TaskSize:
        """Classes and pictures of an inversion of this teacher."""
        return TaskSize.of(self.config, teacher.record.num_classes).within(self.most_images)

    def step_shares(
        self, shares: Sequence[Share], student: Student | None = None
    ) -> tuple[list[RecoveredTask], dict[str, float]]:
        """See `Inverter.step_shares`."""
        raise NotImplementedError

    def step(
        self, teachers: Sequence[tuple[int, Teacher]], student: Student | None = None, donor: Teacher | None = None
    ) -> tuple[list[RecoveredTask], dict[str, float]]:
        """See `Inverter.step`."""
        return self.step_shares([Share(teachers, donor)], student)


@dataclass(frozen=True)
class Share:
    """What one chain of a step inverts, see `hf_free.runtime.chains`."""

    teachers: Sequence[tuple[int, Teacher]]
    """(index in the pool, teacher)."""
    donor: Teacher | None = None
    """A teacher with BatchNorm that lends its statistics to those without."""


class Inverter(Protocol):
    """A way to recover tasks from teachers."""

    device: torch.device
    most_images: int | None
    """Most pictures of one inversion, where memory is short; None leaves their number to the configuration."""
    pause: Callable[[], None]
    """Called before each inner step; what it raises ends the step, and nothing that is trained has moved."""
    at_once: int
    """Teachers that a step inverts at once, a thread each, where it `inverts_beside`."""

    @property
    def inverts_beside(self) -> bool:
        """Whether a step can invert several teachers at once."""

    def step(
        self, teachers: Sequence[tuple[int, Teacher]], student: Student | None = None, donor: Teacher | None = None
    ) -> tuple[list[RecoveredTask], dict[str, float]]:
        """Recover a task from each teacher, and learn from that where there is something to learn.

        Args:
            teachers: (index in the pool, teacher).
            student: The meta-learner, for the adversarial term; None leaves the term out.
            donor: A teacher with BatchNorm that lends its statistics to those without; None leaves the term out.

        Returns:
            The tasks, and the mean of each loss term at the last inner step. A teacher that needs more memory than
            there is gives a task without pictures, with the problem in its health.
        """

    def step_shares(
        self, shares: Sequence[Share], student: Student | None = None
    ) -> tuple[list[RecoveredTask], dict[str, float]]:
        """`step` of a run of several chains: this process's shares -> what all chains recovered, in their order."""

    def recover(
        self,
        teacher: Teacher,
        index: int = 0,
        student: Student | None = None,
        *,
        steps: int | None = None,
        donor: Teacher | None = None,
    ) -> RecoveredTask:
        """Recover one task and learn nothing from it; `steps` None takes as many as the method asks for."""

    def task_size(self, teacher: Teacher) -> TaskSize:
        """Classes and pictures of an inversion of this teacher."""

    def compile(self) -> None:
        """Have torch.compile compile what can be compiled."""

    def modules(self) -> dict[str, nn.Module]:
        """What is trained over all teachers, so that a checkpoint has to hold it."""

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Optimizers of what `modules` gives."""


INVERSION = "inversion"
"""Purpose of all random numbers of an inversion, by the teacher's index: classes, latents, canvases, shifts."""


def targets_for(teacher: Teacher, size: TaskSize, device: torch.device, stream: Stream = GLOBAL) -> InversionTarget:
    """Labels of an inversion's pictures: all classes, or a random subset of a large head's."""
    return targets_among(teacher.record.num_classes, size, device, stream)


def targets_among(count: int, size: TaskSize, device: torch.device, stream: Stream = GLOBAL) -> InversionTarget:
    """`targets_for` a teacher of so many classes."""
    chosen = list(range(count))
    if count > size.classes:
        chosen = sorted(torch.randperm(count, generator=stream.on("cpu"))[: size.classes].tolist())
    labels = torch.arange(len(chosen), device=device).repeat(size.images_per_class)
    return InversionTarget(labels, tuple(chosen))


class NoTask(NamedTuple):
    """Why a teacher gives no task, and what would help."""

    problem: str
    way_out: str = ""


def why_not(error: Exception) -> NoTask | None:
    """Why an inversion gives no task, where that is the teacher's: too little memory for it, or no gradient; None for
    other errors."""
    if isinstance(error, NoGradientError):
        return NoTask(NO_GRADIENT, error.action)
    return NoTask(OUT_OF_MEMORY) if is_out_of_memory(error) else None


def recover_if_it_fits(
    invert: Callable[[Teacher | None], tuple[Tensor, InversionTarget, Terms]],
    teacher: Teacher,
    index: int,
    donor: Teacher | None,
    *,
    again: Callable[[], None] = lambda: None,
) -> tuple[RecoveredTask, Terms]:
    """One task and its last loss terms; a task with a problem where memory does not suffice.

    Args:
        invert: The inversion, given who lends statistics.
        teacher: The teacher that is inverted.
        index: Its place in the pool.
        donor: See `Inverter.step`; it is tried without one that is too large, which is not the teacher's fault.
        again: Called after each try that did not fit.
    """
    lends = donor is not None and not teacher.record.has_batchnorm
    problem = NoTask(OUT_OF_MEMORY)
    for tried in [donor, None] if lends else [None]:
        try:
            images, target, terms = invert(tried)
            return finish_task(images, target.labels, target.classes, teacher, index), terms
        except (MemoryError, RuntimeError, NoGradientError) as error:
            if (found := why_not(error)) is None:
                raise
            problem = found
        again()
    return failed_task(teacher, index, *problem), {}


def recover_each(
    shares: Sequence[Share],
    invert: Callable[[Teacher, int, Teacher | None], tuple[Tensor, InversionTarget, Terms]],
    chains: Chains,
) -> tuple[list[RecoveredTask], dict[str, float]]:
    """`Inverter.step_shares` of a method that learns nothing from one teacher for the next.

    Args:
        shares: What this process's chains invert.
        invert: The inversion of one teacher, by its index, given who lends statistics.
        chains: All chains of the run.
    """
    found = []
    for _, share in zip(chains.each(), shares, strict=True):
        lent = share.donor
        found.append(
            [recover_if_it_fits(partial(invert, one, place), one, place, lent) for place, one in share.teachers]
        )
    pairs = gathered(found, chains)
    return [task for task, _ in pairs], mean_terms([terms for _, terms in pairs])


class KeepsNothing(StepsAlone):
    """What inverters share that learn nothing from one teacher for the next."""

    def compile(self) -> None:
        """There is nothing to compile: what is trained lives for one task."""

    def modules(self) -> dict[str, nn.Module]:
        """None."""
        return {}

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """None, either."""
        return []


class InvertsEach(KeepsNothing):
    """An inverter that inverts each teacher by itself, in one and the same way."""

    steps: int
    chains: Chains

    def invert(
        self, teacher: Teacher, index: int, student: Student | None, donor: Teacher | None, steps: int
    ) -> tuple[Tensor, InversionTarget, Terms]:
        """Pictures of one teacher, what they stand for, and the last loss terms."""
        raise NotImplementedError

    def step_shares(
        self, shares: Sequence[Share], student: Student | None = None
    ) -> tuple[list[RecoveredTask], dict[str, float]]:
        """See `Inverter.step_shares`."""
        return recover_each(
            shares, lambda one, place, lent: self.invert(one, place, student, lent, self.steps), self.chains
        )

    def recover(
        self,
        teacher: Teacher,
        index: int = 0,
        student: Student | None = None,
        *,
        steps: int | None = None,
        donor: Teacher | None = None,
    ) -> RecoveredTask:
        """See `Inverter.recover`."""
        images, target, _ = self.invert(teacher, index, student, donor, steps or self.steps)
        return finish_task(images, target.labels, target.classes, teacher, index)


def gathered(of_own: Sequence[Sequence[T]], chains: Chains) -> list[T]:
    """What this process's chains have found -> what all chains of the run have found, in their order."""
    return [one for of_chain in chains.gather(of_own) for one in of_chain]


def mean_terms(terms: Sequence[Terms]) -> dict[str, float]:
    """The mean of each term over the inversions that have it."""
    names = sorted({name for one in terms for name in one})
    return {name: torch.stack([one[name] for one in terms if name in one]).mean().item() for name in names}
