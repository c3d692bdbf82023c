"""Pictures that are not real, and what all teachers say of them: what a pooled learner is fitted to."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hf_free.config.sections import FiveConfig
from hf_free.data.images import to_float
from hf_free.data.own_pictures import OwnPictures
from hf_free.inversion.base import Inverter
from hf_free.inversion.task import RecoveredTask
from hf_free.memory.filling import draw_beside
from hf_free.runtime.memory_budget import pictures_at_once
from hf_free.runtime.random_streams import UNSEEDED, RandomStreams
from hf_free.teachers.pool import TeacherPool

logger = logging.getLogger(__name__)

MOST_PIXELS = 64
"""Largest height and width of recovered and drawn pictures; teachers enlarge them. Those of 224 pixels take
minutes each, and teachers recognize those of 64 (docs/experiments/public-checkpoints.md)."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Said:
    """What all teachers say of N pictures, one tensor per teacher.

    Attributes:
        features: (N, F) each, the classifier's input.
        logits: (N, C) each.
    """

    features: tuple[Tensor, ...]
    logits: tuple[Tensor, ...]


def recover_from_all(
    inverter: Inverter,
    pool: TeacherPool,
    config: FiveConfig,
    rounds: int,
    progress: Progress | None = None,
    *,
    is_over: Callable[[], bool] = lambda: False,
    streams: RandomStreams = UNSEEDED,
) -> list[RecoveredTask]:
    """One task from each teacher, by an inverter that has met all of them in earlier rounds; only healthy tasks are
    kept.

    Args:
        inverter: It learns from each round.
        pool: The teachers.
        config: How many of them a step takes, and which tasks are healthy.
        rounds: How often each teacher is met; the tasks of the last time are returned.
        progress: Told of each step.
        is_over: Asked before each step; once it says so, no further one is taken.
        streams: The inverter's random numbers, begun anew for each step.
    """
    tasks: dict[int, RecoveredTask] = {}
    places = torch.arange(len(pool)).split(config.teachers_per_step)
    for turn in range(rounds):
        for step, group in enumerate(places):
            if is_over():
                if len(tasks) < len(pool):
                    logger.warning(
                        "the time for recovering pictures was over after %d of %d teachers", len(tasks), len(pool)
                    )
                return _healthy(tasks, config)
            streams.begin(turn * len(places) + step + 1)
            found, _ = inverter.step([(place, pool[place]) for place in group.tolist()])
            for task in found:
                if task.health.problem is not None and task.teacher not in tasks:
                    logger.warning("no pictures are recovered from %s: %s", task.reference, task.health.problem)
            tasks |= {task.teacher: task for task in found}
            if progress is not None:
                progress("steps of recovering pictures", turn * len(places) + step + 1, rounds * len(places))
    return _healthy(tasks, config)


def _healthy(tasks: Mapping[int, RecoveredTask], config: FiveConfig) -> list[RecoveredTask]:
    """Those worth keeping, in the order of their teachers."""
    least, diversity = config.min_teacher_accuracy, config.min_diversity
    return [
        tasks[place] for place in sorted(tasks) if tasks[place].health.reason_to_leave_out(least, diversity) is None
    ]


def pictures_of(
    tasks: Sequence[RecoveredTask],
    pool: TeacherPool,
    count: int,
    size: tuple[int, int],
    own: OwnPictures | None = None,
) -> Tensor:
    """Recovered pictures, at most half of `count`, evenly from all tasks, and drawn ones for the rest.

    Args:
        tasks: What was recovered.
        pool: The teachers, whose colors the drawn pictures have.
        count: Number of pictures.
        size: Channels, and height and width.
        own: Pictures of the user's own, which stand for a part of the drawn ones.

    Returns:
        (count, C, S, S) bytes, recovered ones first.
    """
    recovered = torch.cat([task.images for task in tasks]) if tasks else torch.empty(0, size[0], size[1], size[1])
    chosen = torch.linspace(0, len(recovered) - 1, min(count // 2, len(recovered))).long()
    return torch.cat([recovered[chosen].to(torch.uint8), draw_beside(pool, count - len(chosen), size, own=own)])


@torch.no_grad()
def ask_all(pool: TeacherPool, pictures: Tensor, progress: Progress | None = None) -> Said:
    """Show pictures (N, C, S, S) as bytes to every teacher, one after the other; what they say, on the CPU."""
    features, logits = [], []
    for place in range(len(pool)):
        teacher = pool[place].faster()
        at_once = pictures_at_once(max(teacher.record.input_size[1:]))
        parts = [teacher(to_float(part.to(teacher.device))) for part in pictures.split(at_once)]
        features.append(torch.cat([part.features.float().flatten(1).cpu() for part in parts]))
        logits.append(torch.cat([part.logits.float().cpu() for part in parts]))
        if progress is not None:
            progress("teachers asked", place + 1, len(pool))
    return Said(tuple(features), tuple(logits))
