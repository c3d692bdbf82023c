"""A recovered task: what one inversion of one teacher gives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hf_free.inversion.losses import pairwise_distance
from hf_free.teachers.teacher import Teacher


@dataclass(frozen=True)
class Health:
    """How good a recovery is, as judged by the teacher itself."""

    accuracy: float
    """Share of the pictures that the teacher recognizes as the class they were made for."""
    loss: float
    """Cross-entropy to that class, in nats."""
    diversity: float
    """Mean cosine distance of the teacher's features within a class, 0 (all alike) to 2."""

    problem: str | None = None
    """Why nothing could be recovered at all; the numbers mean nothing then."""

    way_out: str = ""
    """What helps against the problem; empty where that depends on who asks."""

    def reason_to_leave_out(self, min_accuracy: float, min_diversity: float = 0.0) -> str | None:
        """Why the task should not be learned from, or None."""
        if self.problem is not None:
            return self.problem
        if not (self.loss == self.loss and abs(self.loss) != float("inf")):
            return "the teacher's outputs on its recovered pictures are not finite"
        if self.accuracy < min_accuracy:
            share = f"{self.accuracy:.0%} of its recovered pictures"
            return f"the teacher recognizes {share} (at least {min_accuracy:.0%} are needed)"
        if self.diversity < min_diversity:
            distance = f"mean distance {self.diversity:.3f} in the teacher's features"
            return f"its pictures of a class are nearly one picture ({distance}; at least {min_diversity:g} is needed)"
        return None


@dataclass(frozen=True)
class RecoveredTask:
    """Pictures recovered from one teacher, with labels.

    Attributes:
        images: (N, C, H, W) uint8.
        labels: (N,) in 0..n-1, positions in `classes`.
        soft_labels: (N, n) the teacher's probabilities over `classes`.
        classes: The teacher's classes that the task is about, by their index in its head.
        teacher: Index of the teacher in its pool.
        reference: Text that names the teacher.
        health: Quality of the recovery.
    """

    images: Tensor
    labels: Tensor
    soft_labels: Tensor
    classes: tuple[int, ...]
    teacher: int
    reference: str
    health: Health

    def __repr__(self) -> str:
        size = "x".join(map(str, self.images.shape[1:]))
        return f"RecoveredTask({len(self.labels)} pictures of {size}, {len(self.classes)} classes, {self.reference!r})"


def to_uint8(images: Tensor) -> Tensor:
    """Pictures in [0, 1] as bytes, rounded."""
    return (images.detach() * 255).round_().clamp_(0, 255).to(torch.uint8)


def failed_task(teacher: Teacher, index: int, problem: str, way_out: str = "") -> RecoveredTask:
    """A task without pictures, for a teacher that cannot be inverted at all; see `Health`."""
    classes = tuple(range(teacher.record.num_classes))
    images, labels = torch.empty(0, 3, 1, 1, dtype=torch.uint8), torch.empty(0, dtype=torch.long)
    health = Health(0.0, float("nan"), 0.0, problem, way_out)
    answers = torch.empty(0, len(classes))
    return RecoveredTask(images, labels, answers, classes, index, teacher.record.reference, health)


@torch.no_grad()
def finish_task(
    images: Tensor, labels: Tensor, classes: tuple[int, ...], teacher: Teacher, index: int
) -> RecoveredTask:
    """Round the pictures, ask the teacher about them, and measure the task's health."""
    stored = to_uint8(images)
    output = teacher(stored.float() / 255)
    logits = output.logits[:, list(classes)].float()
    health = Health(
        accuracy=(logits.argmax(1) == labels).float().mean().item(),
        loss=torch.nn.functional.cross_entropy(logits, labels).item(),
        diversity=pairwise_distance(output.features, labels).item(),
    )
    return RecoveredTask(
        stored.cpu(), labels.cpu(), logits.softmax(1).cpu(), classes, index, teacher.record.reference, health
    )
