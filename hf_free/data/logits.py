"""Which columns of a row of logits are whose, and logits centered per teacher."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor, nn

from hf_free.data.logit_rows import LogitRows

CHUNK = 4096
"""Rows of logits that are looked at together."""

MAX_ANSWERS = 64
"""Outputs of one teacher that are learned at most; a larger head is represented by a random subset of its classes."""


@dataclass(frozen=True)
class LogitBlock:
    """The columns of one teacher in a row of logits."""

    teachers: tuple[int, ...]
    """Number of the teacher in its run, several where it is listed more than once; none for a teacher that only the
    learner which is continued still knows."""
    start: int
    size: int
    chosen: tuple[int, ...] | None = None
    """Which of the teacher's outputs the columns are; None for all."""

    @property
    def teacher(self) -> int | None:
        """The teacher that is asked, if there is one."""
        return self.teachers[-1] if self.teachers else None

    @property
    def columns(self) -> slice:
        """Where they stand."""
        return slice(self.start, self.start + self.size)


@dataclass(frozen=True)
class LogitLayout:
    """Which outputs of which teacher stand where in a row of logits: blocks side by side."""

    blocks: tuple[LogitBlock, ...]

    @classmethod
    def of(
        cls,
        counts: Sequence[int],
        *,
        seed: int = 0,
        earlier: Sequence[LogitBlock] = (),
        known: Sequence[int | None] | None = None,
    ) -> LogitLayout:
        """The layout of a run's teachers, behind the blocks of a learner that is continued.

        Args:
            counts: Number of classes of each teacher.
            seed: Seed of the subsets of large heads.
            earlier: Blocks that come first; who answers for them is not one of `counts`, unless `known` says so.
            known: For each teacher which of the earlier blocks is its own, None where it gets a block.
        """
        generator = torch.Generator().manual_seed(seed)
        blocks = list(earlier)
        for teacher, count in enumerate(counts):
            chosen = None
            if count > MAX_ANSWERS:  # drawn for a known one as well, so that the others' subsets are the same
                chosen = tuple(torch.randperm(count, generator=generator)[:MAX_ANSWERS].sort().values.tolist())
            place = None if known is None else known[teacher]
            if place is not None:
                blocks[place] = replace(blocks[place], teachers=(*blocks[place].teachers, teacher))
            else:
                blocks.append(LogitBlock((teacher,), 0, min(count, MAX_ANSWERS), chosen))
        return cls.side_by_side(blocks)

    @classmethod
    def side_by_side(cls, blocks: Iterable[LogitBlock]) -> LogitLayout:
        """The layout of these blocks in this order, wherever they stood before."""
        listed = list(blocks)
        starts = accumulate([0, *(block.size for block in listed)])
        return cls(tuple(replace(block, start=start) for block, start in zip(listed, starts, strict=False)))

    @property
    def sizes(self) -> list[int]:
        """Number of columns of each block."""
        return [block.size for block in self.blocks]

    @property
    def width(self) -> int:
        """Number of columns."""
        return sum(block.size for block in self.blocks)

    def place(self, teacher: int) -> int | None:
        """Which of the blocks is a teacher's."""
        return self._places.get(teacher)

    def places(self, teachers: Tensor) -> Tensor:
        """Which of the blocks is each teacher's, (N,) -> (N,); -1 for teachers that have none."""
        return torch.tensor([self._places.get(teacher, -1) for teacher in teachers.tolist()], dtype=torch.long)

    def columns(self, teacher: int) -> slice:
        """Where a teacher's logits stand."""
        return self.blocks[self._places[teacher]].columns

    def without(self, teachers: Collection[int]) -> LogitLayout:
        """The layout that remains when these teachers' blocks are taken away and the others close up."""
        return self.side_by_side(block for block in self.blocks if not set(block.teachers) & set(teachers))

    @cached_property
    def _places(self) -> dict[int, int]:
        return {teacher: place for place, block in enumerate(self.blocks) for teacher in block.teachers}


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


def unanswered_teachers(layout: LogitLayout, logits: LogitRows) -> list[int]:
    """Teachers that answered none of the images: no memory for them, no finite numbers, or they were never asked."""
    if logits.blocks is None:
        known = ~logits.values.isnan().all(0)
    else:
        known = torch.zeros(layout.width, dtype=torch.bool)
        for part in (logits[first : first + CHUNK] for first in range(0, len(logits), CHUNK)):
            placed = part.placed()
            known[placed.columns[placed.is_inside & ~part.values.isnan()].cpu()] = True
    return sorted(i for block in layout.blocks if not bool(known[block.columns].any()) for i in block.teachers)


@dataclass(frozen=True)
class ClassKey:
    """A class as a teacher knows it."""

    teacher: int
    index: int
