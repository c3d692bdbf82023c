"""What every way of meta-learning offers to the training loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from hf_free.inversion.task import RecoveredTask
from hf_free.memory.bank import TaskMemory


class Objective(Protocol):
    """What the loop needs of a way to learn."""

    optimizer: torch.optim.Optimizer
    answer_width: int
    """Answers that the memory has to keep with each picture; 0: the teachers need not be asked."""
    at_once: int | None
    """Pictures that the learner takes in one pass at most, where memory is short."""
    pause: Callable[[], None]
    """Called between passes; what it raises ends the step, between two updates of the weights."""

    def step(self, tasks: Sequence[RecoveredTask], memory: TaskMemory, rate: float) -> dict[str, float]:
        """Learn from the new tasks and the memory; `rate` scales the learning rate."""

    def score(self, held_out: TaskMemory, episodes: int) -> float:
        """How good the learner is on recovered pictures it never learned from; higher is better, -inf is unknown."""

    def student(self, images: Tensor, teacher: int) -> Tensor:
        """The learner's logits for a teacher's classes; half-made pictures leave no trace in its statistics."""

    def modules(self) -> dict[str, nn.Module]:
        """What a checkpoint has to hold besides the learner."""

    def tensors(self) -> dict[str, Tensor]:
        """What else a checkpoint has to hold, where it is no module's."""

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `tensors` gave."""
