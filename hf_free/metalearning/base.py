"""The interface that every way of meta-learning offers to a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from hf_free.inversion.task import RecoveredTask
from hf_free.learner.meta_learner import MetaLearner
from hf_free.memory.bank import TaskMemory
from hf_free.runtime.random_streams import Stream


@dataclass(frozen=True)
class Moment:
    """Where a step stands in its run; the defaults are those of a single step with ample time and memory."""

    rate: float = 1.0
    """Factor on the learning rate."""
    is_logged: bool = False
    """Whether the step has a line in the log, so that costly measurements are worth their time."""
    is_over: Callable[[], bool] = lambda: False
    """Tells whether the run's time is over; loops without another bound end then."""
    pause: Callable[[], None] = lambda: None
    """To be called between passes; an exception from it ends the step between two updates of the weights."""
    at_once: int | None = None
    """Most pictures that the learner takes in one pass, where memory is short."""


BY_ITSELF = Moment()
"""A single step outside any run."""


@dataclass(frozen=True)
class Rehearsal:
    """One update of a copy of the learner, to be measured: nothing that a run goes on with is changed."""

    name: str
    """What is measured, such as "an update of the learner"."""
    update: Callable[[int], object]
    """Runs it with so many random pictures."""
    least: int
    """The fewest pictures it makes sense with."""
    most: int
    """Pictures of a full update."""
    learner: MetaLearner
    """The copy."""
    align: Callable[[int], object] | None = None
    """A step on a recovered task of so many pictures, where whole tasks are learned from."""


class Objective(Protocol):
    """How a learner learns from recovered tasks and the memory."""

    learner: MetaLearner
    asks_teachers: bool
    """Whether the memory has to hold every teacher's answers to each picture."""
    needs_new_tasks: bool
    """Whether a step without new tasks has nothing to learn from."""

    @property
    def answers_beside(self) -> bool:
        """Whether several threads may ask the `student` at once."""

    def step(self, tasks: Sequence[RecoveredTask], memory: TaskMemory, moment: Moment) -> dict[str, float]:
        """Learn from the new tasks and the memory; named terms for the log."""

    def preferred(self, usable: Sequence[int], stream: Stream) -> Sequence[int]:
        """Of the teachers that can be inverted, by index, those that the next step should recover tasks from.

        Args:
            usable: One or more teachers.
            stream: Random numbers, where the choice is random.

        Returns:
            Some of them, at least one; all where it makes no difference.
        """

    def score(self, held_out: TaskMemory, episodes: int, *, at_once: int | None = None) -> float:
        """How good the learner is on recovered pictures it never learned from; higher is better, -inf is unknown.

        Args:
            held_out: These pictures.
            episodes: Number of episodes to draw from them, where episodes are drawn.
            at_once: Most pictures that the learner takes in one pass, where memory is short.
        """

    def student(self, images: Tensor, teacher: int) -> Tensor:
        """The learner's logits for a teacher's classes; unfinished pictures leave no trace in its BatchNorm
        statistics."""

    def rehearsal(self) -> Rehearsal:
        """An update to try out, so that its memory and time can be measured."""

    def modules(self) -> dict[str, nn.Module]:
        """Modules that a checkpoint has to hold besides the learner."""

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Its optimizers, for the checkpoint."""

    def bring_together(self) -> None:
        """Have this process hold all that a checkpoint needs; called in all processes alike, before one is written."""

    def tensors(self) -> dict[str, Tensor]:
        """Tensors that a checkpoint has to hold besides those of modules."""

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `tensors` gave."""
