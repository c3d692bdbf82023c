"""What goes into the memory: recovered tasks, drawn pictures beside them, and every teacher's answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hf_free.data.logits import LogitLayout
from hf_free.data.procedural.mixture import EMBLEMS, draw
from hf_free.inversion.task import RecoveredTask, to_uint8
from hf_free.memory.bank import TaskMemory
from hf_free.runtime.device import Precision
from hf_free.runtime.random_streams import GLOBAL, UNSEEDED, RandomStreams, Stream
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.soft_labels import ASKED_AT_ONCE, LabelSource, label


class TaskCounts(Protocol):
    """What is counted of the tasks that are kept."""

    kept_tasks: int
    pictures: int
    accuracy_sum: float
    diversity_sum: float


HELD_OUT_SHARE = 0.25
"""Held-out pictures for one that the memory was given, at most, so that a short run has something to learn from."""


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
    drawn: int = 0
    """Pictures drawn beside those of a step."""
    at_once: int = ASKED_AT_ONCE
    """Pictures that a teacher is asked about at once."""
    last_task_only: bool = False
    """Whether a step's other tasks are forgotten, a defect of the released code."""
    streams: RandomStreams = UNSEEDED
    """Where random numbers come from."""


def fill(
    to: Filling, tasks: Sequence[RecoveredTask], counts: TaskCounts, *, pause: Callable[[], None] = lambda: None
) -> None:
    """Put recovered tasks, and drawn pictures beside them, into the memory with every teacher's answers.

    Some tasks are kept aside until enough are; drawn pictures never are. Where `pause`, called between two batches of
    questions, raises something, nothing is kept.
    """
    stored = tasks[-1:] if to.last_task_only else tasks
    if not stored:
        return
    memory, held_out = to.memory, to.held_out
    drawn = torch.empty(0, *stored[0].images.shape[1:], dtype=torch.uint8)
    if to.drawn:
        drawn = draw_beside(to.pool, to.drawn, to.size, to.streams.stream("drawn"))
    answers: list[Tensor | None] = [None] * (len(stored) + 1)
    if memory.answer_width:
        pictures = torch.cat([*(task.images for task in stored), drawn])
        rows = label(to.sources, pictures, to.layout, to.precision, batch=to.at_once, pause=pause)
        answers = list(rows.split([*(len(task.images) for task in stored), len(drawn)]))
    for task, rows_of_task in zip(stored, answers, strict=False):
        is_aside = len(held_out) < min(held_out.max_images, HELD_OUT_SHARE * memory.seen)
        (held_out if is_aside else memory).add_task(task, rows_of_task)
        counts.kept_tasks += 1
        counts.pictures += len(task.images)
        counts.accuracy_sum += task.health.accuracy
        counts.diversity_sum += task.health.diversity
    if len(drawn):
        memory.add_pictures(drawn, answers[-1])


def draw_beside(pool: TeacherPool, count: int, size: tuple[int, int], stream: Stream = GLOBAL) -> Tensor:
    """Pictures that a program draws in the teachers' colours, as bytes; `size` is (channels, height and width)."""
    colours = [(record.mean, record.std) for record in pool.records]
    channels, side = size
    return to_uint8(draw(colours, count, side, channels=channels, generator=stream.fresh(), emblem_share=EMBLEMS))
