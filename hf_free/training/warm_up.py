"""FIVE's steps in a run: which teachers are inverted, and a warm-up that begins before the last one has arrived.

A warm-up step moves the meta-generator and keeps nothing, so it needs neither a learner nor any teacher in
particular: it is what a run can do while teachers are still being downloaded. The first task that is kept is shown to
every teacher, and waits for all of them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property

import torch

from hf_free.config.sections import FiveConfig, TrainerConfig
from hf_free.errors import VanishedTeacherError
from hf_free.inversion.base import Inverter, Share, Student
from hf_free.inversion.task import RecoveredTask
from hf_free.provenance.teacher_record import TeacherRecord
from hf_free.runtime.chains import ONE_CHAIN, Chains
from hf_free.runtime.memory_budget import pictures_at_once
from hf_free.runtime.random_streams import RandomStreams, Stream
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.teacher import Teacher
from hf_free.training.black_boxes import invertible
from hf_free.training.schedule import Clock
from hf_free.training.state import RunState
from hf_free.training.trackers import LogRow, is_logged, log_row

logger = logging.getLogger(__name__)

Preferred = Callable[[Sequence[int], Stream], Sequence[int]]
"""Which of the teachers that can be inverted a step should recover tasks from."""


def invert_some(
    inverter: Inverter,
    pool: TeacherPool,
    config: FiveConfig,
    state: RunState,
    student: Student | None,
    streams: RandomStreams,
    chains: Chains,
    preferred: Preferred | None = None,
) -> tuple[list[RecoveredTask], dict[str, float]]:
    """One step of an inverter on random teachers, each chain's from its own: all chains' tasks, and mean terms.

    In a chain without any `preferred` teacher (`hf_free.metalearning.base.Objective`) all are equally good.
    """
    can = invertible(pool, inverter)
    left_alone = {*state.excluded, *state.gone}
    shares, usable_at_all = [], [i for i in range(len(pool)) if i not in left_alone and can[i]]
    if preferred is not None and usable_at_all:
        wanted = set(preferred(usable_at_all, streams.stream("groups")))
    else:
        wanted = set(usable_at_all)
    for chain in chains.own:
        stream = streams.stream("teachers", chain)
        own = [i for i in usable_at_all if pool.chain_of(i, chains) == chain]
        usable = [i for i in own if i in wanted] or own
        chosen = _draw_teachers(pool, chains.sizes(config.teachers_per_step)[chain], usable, stream)
        shares.append(Share(chosen, _draw_donor(pool, config, usable, [one.record for _, one in chosen], stream)))
    if not any(can):
        return [], {}  # black boxes alone: they are asked about drawn pictures
    return inverter.step_shares(shares, student)


MIN_TEACHERS = 2
"""Fewest teachers for an early step: from one alone the generator would learn that one by heart."""


class WarmUp:
    """The warm-up steps of a run for which only some of its teachers are needed.

    Such steps count as the run's own, in steps and seconds. Which teachers they see depends on how fast each arrives,
    so a run that downloads is not the same, number by number, as one from the cache; the run's record says how many
    steps that were.

    Args:
        make: Makes the method's inverter.
        five: The inverter's settings.
        trainer: Length of the run and of its warm-up.
        state: The run's state; steps are counted there.
        streams: Where random numbers come from.
        show: Told each step and its loss terms.
        image_size: Height and width of recovered pictures.
    """

    def __init__(
        self,
        make: Callable[[], Inverter],
        five: FiveConfig,
        trainer: TrainerConfig,
        state: RunState,
        streams: RandomStreams,
        show: Callable[[int, Mapping[str, float]], None],
        *,
        image_size: int,
    ) -> None:
        self._make, self._five, self._trainer, self._image_size = make, five, trainer, image_size
        self._state, self._streams, self._show = state, streams, show
        self.log: list[LogRow] = []
        """Lines of the log, kept until the run's folder is begun."""

    @cached_property
    def inverter(self) -> Inverter:
        """The method's, made when it is first asked for.

        Until a run's memory is measured, which takes all teachers, its inversions are of few pictures where these are
        large.
        """
        inverter = self._make()
        inverter.most_images = pictures_at_once(self._image_size)
        return inverter

    def step(self, pool: TeacherPool) -> bool:
        """Do one step if there are enough teachers and the warm-up is not over; returns whether one was done."""
        state = self._state
        clock = Clock(self._trainer, state.seconds)
        is_over = clock.is_over(state.step) or not clock.is_warm_up(state.step + 1)
        if is_over or len(pool) < min(MIN_TEACHERS, self._five.teachers_per_step):
            return False
        start = time.monotonic()
        state.step += 1
        state.early_steps += 1
        self._streams.begin(state.step)
        # A task with a problem comes to nothing here; its teacher is judged in the steps that follow.
        _, terms = invert_some(self.inverter, pool, self._five, state, None, self._streams, ONE_CHAIN)
        state.seconds += time.monotonic() - start
        logger.info("warm-up step %d with the %d teachers that are there", state.step, len(pool))
        self._show(state.step, terms)
        if is_logged(state.step, self._trainer.log_every):
            self.log.append(log_row(state, (), terms))
        return True


def _draw_teachers(pool: TeacherPool, count: int, usable: Sequence[int], stream: Stream) -> list[tuple[int, Teacher]]:
    """Teachers drawn uniformly without replacement, as far as there are enough that can still be loaded."""
    drawn = list[tuple[int, Teacher]]()
    for place in torch.randperm(len(usable), generator=stream.on("cpu")).tolist():
        if len(drawn) == count:
            break
        with suppress(VanishedTeacherError):
            drawn.append((usable[place], pool[usable[place]]))
    return drawn


def _draw_donor(
    pool: TeacherPool, config: FiveConfig, usable: Sequence[int], records: Sequence[TeacherRecord], stream: Stream
) -> Teacher | None:
    """A random teacher with BatchNorm, if one of these has none and is to borrow another's statistics."""
    if not config.donor_batchnorm or all(record.has_batchnorm for record in records):
        return None
    donors = [index for index in usable if pool.records[index].has_batchnorm and index not in pool.gone]
    if donors:
        with suppress(VanishedTeacherError):
            return pool[donors[int(torch.randint(len(donors), (), generator=stream.on("cpu")))]]
    return None
