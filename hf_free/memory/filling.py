"""What goes into the memory: recovered tasks, drawn pictures beside them, and teachers' answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from hf_free.data.logit_rows import LogitRows
from hf_free.data.logits import LogitLayout
from hf_free.data.own_pictures import OWN_SHARE, OwnPictures
from hf_free.data.procedural.mixture import EMBLEMS, draw
from hf_free.inversion.task import RecoveredTask, to_uint8
from hf_free.memory.bank import TaskMemory
from hf_free.runtime.chains import ONE_CHAIN, Chains
from hf_free.runtime.device import Precision
from hf_free.runtime.random_streams import GLOBAL, UNSEEDED, RandomStreams, Stream
from hf_free.teachers.asking import choose_asked, count_asked
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.soft_labels import ASKED_AT_ONCE, LabelSource, TeacherSource, label


class TaskCounts(Protocol):
    """What is counted of the tasks that are kept."""

    kept_tasks: int
    pictures: int
    accuracy_sum: float
    diversity_sum: float
    asked: list[int]
    """Pictures that each block of the layout was asked about, where not all are."""


HELD_OUT_SHARE = 0.25
"""Most held-out pictures per picture in the memory, so that a short run has something to learn from."""


@dataclass(frozen=True)
class Filling:
    """Where pictures go, who is asked about them, and how many are drawn beside the recovered ones."""

    memory: TaskMemory
    held_out: TaskMemory
    """Pictures kept aside."""
    pool: TeacherPool
    sources: Sequence[LabelSource]
    """Who is asked."""
    layout: LogitLayout
    """Where whose answers stand."""
    precision: Precision
    size: tuple[int, int]
    """Channels, and height and width, of the pictures."""
    asked: int | None = None
    """Teachers that are asked about a picture; None asks all."""
    seed: int = 0
    """Seed of the draw of those teachers."""
    drawn: int = 0
    """Pictures drawn besides the recovered ones of a step."""
    own: OwnPictures | None = None
    """Pictures of the user's own, which stand for a part of the drawn ones."""
    at_once: int = ASKED_AT_ONCE
    """Pictures that a teacher is asked about at once."""
    last_task_only: bool = False
    """Whether a step's other tasks are forgotten, a defect of the released code."""
    streams: RandomStreams = UNSEEDED
    """Where random numbers come from."""
    chains: Chains = ONE_CHAIN
    """The chains of the run: who draws which pictures, and asks which teachers about all of them."""

    def own_sources(self) -> list[LabelSource]:
        """Who is asked by this process: teachers of its own chains, and other sources of answers."""
        is_own = self.pool.is_own
        return [one for one in self.sources if not isinstance(one, TeacherSource) or is_own(one.teacher, self.chains)]


def fill(
    to: Filling,
    tasks: Sequence[RecoveredTask],
    counts: TaskCounts,
    *,
    draws_alone: bool = False,
    pause: Callable[[], None] = lambda: None,
) -> None:
    """Put recovered tasks, and drawn pictures beside them, into the memory with teachers' answers.

    Some tasks are kept aside until enough are; drawn pictures never are. Where `pause`, called between two batches of
    questions, raises something, nothing is kept.

    Args:
        to: Where they go.
        tasks: What was recovered.
        counts: What is counted of it.
        draws_alone: Whether pictures are drawn even where nothing was recovered.
        pause: See above.
    """
    stored = tasks[-1:] if to.last_task_only else tasks
    if not stored and not (draws_alone and to.drawn):
        return
    memory, held_out = to.memory, to.held_out
    drawn = torch.empty(0, to.size[0], to.size[1], to.size[1], dtype=torch.uint8)
    if to.drawn:
        drawn = torch.cat(to.chains.gather([_drawn_by(to, chain) for chain in to.chains.each()]))
    answers: list[LogitRows | None] = [None] * (len(stored) + 1)
    if memory.keeps_answers:
        pictures = torch.cat([*(task.images for task in stored), drawn])
        lengths = [*(len(task.images) for task in stored), len(drawn)]
        owners = torch.tensor([*(to.layout.place(task.teacher) for task in stored), -1])
        before = counts.asked or [0] * len(to.layout.blocks)
        asked = choose_asked(owners.repeat_interleave(torch.tensor(lengths)), before, to.asked, seed=to.seed)
        rows = label(to.own_sources(), pictures, to.layout, to.precision, asked, batch=to.at_once, pause=pause)
        rows = LogitRows(to.chains.merged(rows.values), rows.sizes, rows.blocks)
        if asked is not None:
            counts.asked = count_asked(before, asked)
        ends = torch.tensor([0, *lengths]).cumsum(0).tolist()
        answers = [rows[slice(start, end)] for start, end in pairwise(ends)]
    for task, rows_of_task in zip(stored, answers, strict=False):
        is_aside = len(held_out) < min(held_out.max_images, HELD_OUT_SHARE * memory.seen)
        (held_out if is_aside else memory).add_task(task, rows_of_task)
        counts.kept_tasks += 1
        counts.pictures += len(task.images)
        counts.accuracy_sum += task.health.accuracy
        counts.diversity_sum += task.health.diversity
    if len(drawn):
        memory.add_pictures(drawn, answers[-1])


def _drawn_by(to: Filling, chain: int) -> Tensor:
    """A chain's part of the drawn pictures."""
    count = to.chains.sizes(to.drawn)[chain]
    if not count:
        return torch.empty(0, to.size[0], to.size[1], to.size[1], dtype=torch.uint8)
    return draw_beside(to.pool, count, to.size, to.streams.stream("drawn", chain), own=to.own)


def draw_beside(
    pool: TeacherPool,
    count: int,
    size: tuple[int, int],
    stream: Stream = GLOBAL,
    *,
    own: OwnPictures | None = None,
) -> Tensor:
    """Pictures that a program draws in the teachers' colors, and after them a part of the user's own, as bytes.

    Args:
        pool: The teachers.
        count: Number of pictures in all.
        size: Channels, and height and width.
        stream: Random numbers.
        own: The user's own.
    """
    if own is not None:
        of_these = round(OWN_SHARE * count)
        return torch.cat([draw_beside(pool, count - of_these, size, stream), own.draw(of_these, stream)])
    colors = [(record.mean, record.std) for record in pool.records]
    channels, side = size
    return to_uint8(draw(colors, count, side, channels=channels, generator=stream.fresh(), emblem_share=EMBLEMS))
