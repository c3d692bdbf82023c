"""What the parts of a run take on this machine, measured before it begins: bytes and seconds by number of pictures.

Each part is done with few pictures first, then with two to four times as many, as far as memory and a few seconds
allow; a straight line through the last two sizes says what it takes in full. Parts are timed by what the process
computes, and the whole trial says how much wall-clock time that is on this machine now: single short parts differ
several times in it while other programs run. Nothing that the run goes on with is changed: the learner is a copy, the
meta-generator does not move, random numbers are put back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypedDict

import torch

from hf_free.config.sections import FiveConfig
from hf_free.errors import RunError
from hf_free.inversion.base import Inverter, TaskSize
from hf_free.memory.filling import draw_beside
from hf_free.metalearning.base import Objective
from hf_free.runtime.device import Precision, is_out_of_memory
from hf_free.runtime.measuring import busy_seconds_of, clock_of
from hf_free.runtime.memory_budget import peak_memory
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.soft_labels import ASKED_AT_ONCE
from hf_free.training.estimate import kind_of
from hf_free.training.workload import Workload

GROWTH = 4
"""How many times as many pictures the next size has."""

FIRST_IMAGES = 4
"""Pictures of the first size."""

AMPLE = 8
"""Where time is of no interest, a part is not looked at further once its first size says that in full it takes less
than the room divided by this."""

LONG = 0.5
"""Seconds from which on a size says enough of the larger ones: what a pass costs beside its pictures is small then."""

ONCE_IS_ENOUGH = 1.5
"""Seconds from which on a part is not done again to be timed."""

FITTED_COPIES = 5
"""Copies of all features, in fp64, while gate and damping are fitted (`hf_free.metalearning.embedding_fit`)."""

Work = Callable[[int], object]
"""A part of a run, done with so many pictures."""


@dataclass(frozen=True)
class Load:
    """What a part takes: a straight line over the number of pictures."""

    fixed_bytes: float
    image_bytes: float
    fixed_seconds: float
    image_seconds: float

    def bytes(self, images: float) -> float:
        """Bytes at its peak."""
        return self.fixed_bytes + images * self.image_bytes

    def seconds(self, images: float) -> float:
        """Time that is computed; in a `Trial` as it is handed on, wall-clock time."""
        return self.fixed_seconds + images * self.image_seconds

    def images_within(self, room: float) -> int:
        """Pictures for which so many bytes are enough; 0 where they are for none."""
        return int(max(0.0, room - self.fixed_bytes) / max(self.image_bytes, 1.0))

    def scaled(self, factor: float) -> Load:
        """The same part with pictures of so many times the area."""
        return Load(self.fixed_bytes, factor * self.image_bytes, self.fixed_seconds, factor * self.image_seconds)

    def slowed(self, factor: float) -> Load:
        """The same part with its time multiplied."""
        return Load(self.fixed_bytes, self.image_bytes, factor * self.fixed_seconds, factor * self.image_seconds)


NOTHING = Load(0.0, 0.0, 0.0, 0.0)
"""What is not done."""


def line_through(points: Sequence[tuple[int, float, float]]) -> Load:
    """The line through the last two of (pictures, bytes, seconds); through one alone everything is the pictures'."""
    count, taken, spent = points[-1]
    if len(points) == 1:
        return Load(0.0, taken / count, 0.0, spent / count)
    before, taken_before, spent_before = points[-2]
    per_byte = max(0.0, (taken - taken_before) / (count - before))
    per_second = max(0.0, (spent - spent_before) / (count - before))
    return Load(max(0.0, taken - per_byte * count), per_byte, max(0.0, spent - per_second * count), per_second)


def measure(
    work: Work, device: torch.device, *, least: int, most: int, room: float, seconds: float, timed: bool = True
) -> Load:
    """Do a part of a run with more and more pictures.

    Args:
        work: The part.
        device: Where it computes.
        least: Pictures of the first size.
        most: Pictures of the part in full; no size is larger.
        room: Bytes that no size may be expected to pass.
        seconds: Time that the third size and those after it must be expected to fit into.
        timed: Whether its time is wanted; else the first size is enough where memory is ample.
    """
    count, points, start = min(least, most), [], time.monotonic()
    while True:
        now = partial(work, count)
        clock = clock_of(device)
        begun = clock()
        taken = float(peak_memory(now, device))
        spent = clock() - begun
        if timed and spent < ONCE_IS_ENOUGH:  # else a first time, in which much is made that stays, says enough
            spent = busy_seconds_of(now, device)
        points.append((count, taken, spent if timed else 0.0))
        line = line_through(points)
        is_long = len(points) > 1 and points[-1][2] > LONG
        if count == most or is_long or (not timed and AMPLE * line.bytes(most) < room):
            return line
        left = seconds - (time.monotonic() - start)
        larger = [min(most, times * count) for times in (GROWTH, 2)]
        fitting = [size for size in larger if line.bytes(size) < room and 2 * line.seconds(size) < left]
        if not fitting and (len(points) > 1 or line.bytes(larger[-1]) > room):
            return line
        count = fitting[0] if fitting else larger[-1]  # one size alone takes what there is once for the pictures'


@dataclass(frozen=True)
class Trial:
    """What the parts of a run take."""

    inversions: tuple[Load, ...]
    """Inverting each teacher once, all inner steps; pictures are those of its task."""
    answers: tuple[Load, ...]
    """Asking each teacher once."""
    drawing: Load
    """Drawing pictures beside the recovered ones."""
    update: Load
    """One update of the learner; `align`: one episode of replay, by its query pictures."""
    embedding: Load
    """The trained learner's look at pictures, all views."""
    seconds: float
    """What the trial itself took."""
    alignment: Load = NOTHING
    """`align`: a step on a whole recovered task."""
    feature_bytes: int = 0
    """Of one picture's features while the embedding is fitted in the end: fp64, several times."""
    slowdown: float = 1.0
    """Wall-clock seconds that a second of computing took meanwhile: more than 1 while other programs run."""

    def slowed(self, factor: float) -> Trial:
        """The same with all times multiplied."""
        return replace(
            self,
            inversions=tuple(load.slowed(factor) for load in self.inversions),
            answers=tuple(load.slowed(factor) for load in self.answers),
            drawing=self.drawing.slowed(factor),
            update=self.update.slowed(factor),
            embedding=self.embedding.slowed(factor),
            alignment=self.alignment.slowed(factor),
            slowdown=factor * self.slowdown,
        )

    def at_area(self, factor: float) -> Trial:
        """What it would be with pictures of so many times the area, roughly: teachers keep their own size."""
        return replace(
            self,
            inversions=tuple(load.scaled(factor) for load in self.inversions),
            drawing=self.drawing.scaled(factor),
            update=self.update.scaled(factor),
            embedding=self.embedding.scaled(factor),
            alignment=self.alignment.scaled(factor),
        )


def try_parts(
    work: Workload,
    inverter: Inverter,
    pool: TeacherPool,
    objective: Objective,
    precision: Precision,
    *,
    room: float,
    seconds: float,
    timed: bool = True,
) -> Trial:
    """Measure the parts of a run.

    Args:
        work: What the run does.
        inverter: Used as it is; what it has trained does not move.
        pool: The teachers; of those that are built alike, one is measured, and of kinds for which there is no time
            left, none: they count as the longest.
        objective: Its learner is copied.
        precision: How everything computes.
        room: Bytes that no part may be expected to pass.
        seconds: Time of the trial, about; each part has at least one size.
        timed: Whether time is wanted, beside memory.

    Raises:
        RunError: not even the smallest size of a part fits into memory.
    """
    start, device = time.monotonic(), inverter.device
    clock = clock_of(device)
    busy = clock()
    devices = [device] if device.type == "cuda" else []
    size, channels = work.learner.image_size, work.learner.channels
    own = [i for i in range(len(pool)) if pool.chains.is_own(i) and not pool.records[i].answers_only]
    kinds = {kind_of(pool.records[index]): index for index in own}
    share = seconds / (2 * len(kinds) + 3)

    def part(task: Work, name: str, *, least: int, most: int) -> Load:
        try:
            return measure(task, device, least=least, most=most, room=room, seconds=share, timed=timed)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        raise RunError(
            f"{name} does not fit into memory with {min(least, most)} pictures of {size}x{size}",
            allowed="pictures and networks for this machine",
            action="a smaller --image-size or --backbone",
        )

    with torch.random.fork_rng(devices=devices):
        both: dict[tuple[object, ...], tuple[Load, Load]] = {}
        for kind, index in kinds.items():
            if both and time.monotonic() - start > seconds / 2:
                break
            try:
                asking = _asking(pool, index, size, channels, precision)
                both[kind] = (
                    _inversion(work.five, inverter, pool, index, objective, part),
                    part(asking, "asking a teacher", least=FIRST_IMAGES, most=ASKED_AT_ONCE),
                )
            except RunError:  # of one teacher: the run leaves it out by itself
                continue
        drawn = work.memory.drawn_per_step
        drawing = NOTHING
        if drawn:
            drawing = part(lambda n: draw_beside(pool, n, (channels, size)), "drawing", least=FIRST_IMAGES, most=drawn)
        most = max((TaskSize.of(work.five, record.num_classes).images for record in pool.records), default=0)
        learning = _learning(objective, part, most)
    longest = max(both.values(), key=lambda loads: loads[0].seconds(FIRST_IMAGES), default=None)  # for kinds not tried
    unmeasured = (NOTHING, NOTHING)  # a black box computes elsewhere, and asking it may cost
    found = [unmeasured if record.answers_only else both.get(kind_of(record), longest) for record in pool.records]
    inversions, answers = (tuple(loads[place] for loads in found if loads is not None) for place in (0, 1))
    took = time.monotonic() - start
    trial = Trial(inversions, answers, drawing, seconds=took, **learning)
    if device.type != "cpu":
        return trial
    return trial.slowed(trial.seconds / max(clock() - busy, 1e-3))


def _inversion(
    five: FiveConfig,
    inverter: Inverter,
    pool: TeacherPool,
    index: int,
    objective: Objective,
    part: Callable[..., Load],
) -> Load:
    """Inverting one teacher: one inner step is measured, another timed."""
    teacher, before = pool[index], inverter.most_images
    donors = [i for i, record in enumerate(pool.records) if record.has_batchnorm]
    borrows = five.donor_batchnorm and donors and not teacher.record.has_batchnorm
    donor = pool[donors[0]] if borrows else None
    inverter.most_images = None
    full = inverter.task_size(teacher)

    def invert(images: int, steps: int = 1) -> None:
        inverter.most_images = images
        inverter.recover(teacher, index, objective.student, steps=steps, donor=donor)

    try:
        line = part(invert, "an inversion", least=FIRST_IMAGES, most=full.images)
        inner = five.inner_steps
        if line.seconds(FIRST_IMAGES) <= 0 or inner == 1:
            return line
        one = line.seconds(FIRST_IMAGES)
        if one < ONCE_IS_ENOUGH:
            one = busy_seconds_of(partial(invert, FIRST_IMAGES), inverter.device)
        two = busy_seconds_of(partial(invert, FIRST_IMAGES, 2), inverter.device)
        return line.slowed(1 + (inner - 1) * max(0.0, two - one) / max(one, 1e-9))
    finally:
        inverter.most_images = before


def _asking(pool: TeacherPool, index: int, size: int, channels: int, precision: Precision) -> Work:
    teacher = pool.for_asking(index, precision)

    @torch.no_grad()
    def ask(images: int) -> None:
        pictures = torch.randint(256, (images, channels, size, size), dtype=torch.uint8)
        seen = precision.layout(pictures.to(teacher.device).float() / 255)
        with precision.autocast(teacher.device):
            teacher.labels(seen)

    return ask


class _Learning(TypedDict):
    update: Load
    embedding: Load
    alignment: Load
    feature_bytes: int


def _learning(bell: Objective, part: Callable[..., Load], largest_task: int) -> _Learning:
    """An update of a copy of the learner, its step on a whole task, the copy's look at pictures, and its features."""
    rehearsal = bell.rehearsal()
    learner, alignment = rehearsal.learner, NOTHING
    size, channels = learner.config.image_size, learner.config.channels
    update = part(rehearsal.update, rehearsal.name, least=rehearsal.least, most=rehearsal.most)
    if rehearsal.align is not None:
        alignment = part(rehearsal.align, "a step on a task", least=FIRST_IMAGES, most=largest_task)

    def embed(count: int) -> object:
        return learner.embed(torch.randint(256, (count, channels, size, size), dtype=torch.uint8), batch_size=count)

    return {
        "update": update,
        "embedding": part(embed, "the learner", least=FIRST_IMAGES, most=256),
        "alignment": alignment,
        "feature_bytes": FITTED_COPIES * 8 * learner.feature_dim,
    }
