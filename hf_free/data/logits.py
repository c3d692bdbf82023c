"""Which columns of a row of logits are whose, and logits centred per teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

MAX_ANSWERS = 64
"""Outputs of one teacher that are learned at most; a larger head is represented by a random subset of its classes."""


class LogitLayout:
    """Which outputs of which teacher stand where in a row of answers.

    Args:
        counts: Number of classes of each teacher.
        seed: Seed of the subsets of large heads.
    """

    def __init__(self, counts: Sequence[int], *, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.chosen: list[Tensor | None] = [
            torch.randperm(count, generator=generator)[:MAX_ANSWERS].sort().values if count > MAX_ANSWERS else None
            for count in counts
        ]
        self.sizes = [min(count, MAX_ANSWERS) for count in counts]
        self.starts = [sum(self.sizes[:i]) for i in range(len(counts))]
        self.width = sum(self.sizes)

    def columns(self, teacher: int) -> slice:
        """Where a teacher's answers stand."""
        return slice(self.starts[teacher], self.starts[teacher] + self.sizes[teacher])


class CenterPerTeacher(nn.Module):
    """Subtracts from each teacher's logits their mean: a shift of all of them changes no probability.

    Args:
        sizes: Number of answers of each teacher.
    """

    groups: Tensor
    sizes: Tensor

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        counts = torch.tensor(sizes)
        self.register_buffer("groups", torch.arange(len(counts)).repeat_interleave(counts), persistent=False)
        self.register_buffer("sizes", counts.float(), persistent=False)

    def forward(self, answers: Tensor) -> Tensor:
        """(B, A) -> (B, A)."""
        sums = answers.new_zeros(len(answers), len(self.sizes)).index_add_(1, self.groups, answers)
        return answers - (sums / self.sizes)[:, self.groups]


def places_without(sheet: LogitLayout, gone: Sequence[int]) -> Tensor:
    """Where each of a run's teachers stands among those whose answers its learner has; -1 for those that are `gone`.

    The first places of a learner that is continued are its old teachers'.
    """
    starts = [sum(sheet.sizes[:group]) for group in range(len(sheet.sizes))]
    lost = {sheet.starts[teacher] for teacher in gone}
    kept = {start: place for place, start in enumerate(start for start in starts if start not in lost)}
    return torch.tensor([kept.get(start, -1) for start in sheet.starts])


def unanswered_teachers(sheet: LogitLayout, answers: Tensor) -> list[int]:
    """Teachers that answered none of the pictures (N, A): no memory for them, or no finite numbers."""
    unknown = answers.isnan().all(0)
    return [i for i in range(len(sheet.starts)) if bool(unknown[sheet.columns(i)].all())]


@dataclass(frozen=True)
class ClassKey:
    """A class as a teacher knows it."""

    teacher: int
    index: int
