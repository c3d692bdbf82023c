"""What goes into the memory: recovered tasks, drawn pictures beside them, and every teacher's answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from hf_free.config.recipes import Defects
from hf_free.config.tree import FreeConfig
from hf_free.data.procedural.mixture import EMBLEMS, draw
from hf_free.inversion.task import RecoveredTask, to_uint8
from hf_free.memory.bank import TaskMemory
from hf_free.runtime.device import Precision
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.soft_labels import ASKED_AT_ONCE, SoftLabels


class TaskCounts(Protocol):
    """What is counted of the tasks that are kept."""

    kept_tasks: int
    pictures: int
    accuracy_sum: float
    diversity_sum: float


HELD_OUT_SHARE = 0.25
"""Held-out pictures for one that the memory was given, at most, so that a short run has something to learn from."""


def fill(
    memory: TaskMemory,
    held_out: TaskMemory,
    tasks: Sequence[RecoveredTask],
    config: FreeConfig,
    pool: TeacherPool,
    sheet: SoftLabels,
    precision: Precision,
    state: TaskCounts,
    *,
    at_once: int = ASKED_AT_ONCE,
    pause: Callable[[], None] = lambda: None,
) -> None:
    """Put recovered tasks, and drawn pictures beside them, into the memory with every teacher's answers.

    Some tasks are kept aside until enough are; drawn pictures never are. Teachers are asked about `at_once` pictures
    at most; where `pause`, called in between, raises something, nothing is kept.
    """
    stored = tasks[-1:] if Defects.named(config.defects).store_last_teacher_only else tasks
    if not stored:
        return
    drawn = torch.empty(0, *stored[0].images.shape[1:], dtype=torch.uint8)
    if config.memory.drawn_per_step:
        drawn = draw_beside(config, pool, config.memory.drawn_per_step)
    answers: list[Tensor | None] = [None] * (len(stored) + 1)
    if memory.answer_width:
        pictures = torch.cat([*(task.images for task in stored), drawn])
        rows = sheet.ask(pool, pictures, precision, batch=at_once, pause=pause)
        answers = list(rows.split([*(len(task.images) for task in stored), len(drawn)]))
    for task, rows_of_task in zip(stored, answers, strict=False):
        is_aside = len(held_out) < min(held_out.max_images, HELD_OUT_SHARE * memory.seen)
        (held_out if is_aside else memory).add_task(task, rows_of_task)
        state.kept_tasks += 1
        state.pictures += len(task.images)
        state.accuracy_sum += task.health.accuracy
        state.diversity_sum += task.health.diversity
    if len(drawn):
        memory.add_pictures(drawn, answers[-1])


def draw_beside(config: FreeConfig, pool: TeacherPool, count: int) -> Tensor:
    """Pictures that a program draws in the teachers' colours, as bytes."""
    generator = torch.Generator().manual_seed(int(torch.randint(2**31, ()).item()))  # part of the run's random state
    colours = [(record.mean, record.std) for record in pool.records]
    size, channels = config.learner.image_size, config.learner.channels
    return to_uint8(draw(colours, count, size, channels=channels, generator=generator, emblem_share=EMBLEMS))
