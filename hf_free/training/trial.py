"""What the parts of a run take on this machine, measured before it begins: bytes and seconds by number of pictures.

Each part is done with few pictures first, then with two to four times as many, as far as memory and a few seconds
allow; a straight line through the last two sizes says what it takes in full. Parts are timed by what the process
computes, and the whole trial says how much wall-clock time that is on this machine now: single short parts differ
several times in it while other programs run. Nothing that the run goes on with is changed: the learner is a copy, the
meta-generator does not move, random numbers are put back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from hf_free.errors import RunError
from hf_free.inversion.base import Inverter, TaskSize
from hf_free.inversion.differentiable import NoGradientError
from hf_free.memory.filling import draw_beside
from hf_free.metalearning.base import Objective
from hf_free.provenance.teacher_record import TeacherRecord
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

_Kind = tuple[object, ...]
_Part = tuple[object, ...]
"""What is measured: its name, and the kind of teacher."""

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
    work: Work,
    device: torch.device,
    *,
    least: int,
    most: int,
    room: float,
    seconds: float,
    timed: bool = True,
    once: bool = False,
    is_enough: Callable[[Load], bool] = lambda line: False,
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
        once: Whether the first size, done once, is enough.
        is_enough: Whether what a line says needs no larger size; asked after each.
    """
    count, points, start = min(least, most), [], time.monotonic()
    while True:
        now = partial(work, count)
        clock = clock_of(device)
        begun = clock()
        taken = float(peak_memory(now, device))
        spent = clock() - begun
        if timed and not once and spent < ONCE_IS_ENOUGH:  # else a first time, in which much is made, says enough
            spent = busy_seconds_of(now, device)
        points.append((count, taken, spent if timed else 0.0))
        line = line_through(points)
        is_long = len(points) > 1 and points[-1][2] > LONG
        if count == most or is_long or (not timed and AMPLE * line.bytes(most) < room):
            return line
        if once or is_enough(line):
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
    is_hopeless: Callable[[Trial], bool] = lambda so_far: False,
) -> Trial:
    """Measure the parts of a run.

    Of a hopeless one the rest is done once each, with as few pictures as can be, and what half of the time is not
    enough for is taken from the learner's update: that run is refused, and all it needs is what to change.

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
        is_hopeless: Whether what was measured so far, all else taken for nothing, shows that the run will be refused.

    Raises:
        RunError: not even the smallest size of a part fits into memory.
    """
    devices = [inverter.device] if inverter.device.type == "cuda" else []
    trying = _Trying(work, inverter, pool, room=room, seconds=seconds, timed=timed, is_hopeless=is_hopeless)
    with torch.random.fork_rng(devices=devices):
        trying.learning(objective)  # first: what is hopeless shows soonest here
        trying.teachers(objective, precision)
        trying.drawing()
    return trying.whole()


class _Trying:
    """A trial under way: what was measured by now, and whether more is worth its time."""

    def __init__(
        self,
        work: Workload,
        inverter: Inverter,
        pool: TeacherPool,
        *,
        room: float,
        seconds: float,
        timed: bool,
        is_hopeless: Callable[[Trial], bool],
    ) -> None:
        self._work, self._inverter, self._pool = work, inverter, pool
        self._room, self._seconds, self._timed, self._is_hopeless = room, seconds, timed, is_hopeless
        self._clock = clock_of(inverter.device)
        self._start, self._busy = time.monotonic(), self._clock()
        own = [i for i in range(len(pool)) if self._can_be_measured(i)]
        self._kinds = {kind_of(pool.records[index]): index for index in own}
        self._loads: dict[_Part, Load] = {}
        self._feature_bytes = 0
        self._is_over = False
        """Whether what was measured says enough: the rest is done once each."""

    def _can_be_measured(self, index: int) -> bool:
        """Whether a teacher is here and gives gradients."""
        pool = self._pool
        return pool.is_own(index, pool.chains) and index not in pool.gone and not pool.records[index].answers_only

    def learning(self, objective: Objective) -> None:
        """An update of a copy of the learner, its step on a whole task, and the copy's look at pictures."""
        rehearsal = objective.rehearsal()
        learner = rehearsal.learner
        size, channels = learner.config.image_size, learner.config.channels
        self._measure(("update",), rehearsal.update, rehearsal.name, least=rehearsal.least, most=rehearsal.most)
        if rehearsal.align is not None:
            five, records = self._work.five, self._pool.records
            most = max((TaskSize.of(five, record.num_classes).images for record in records), default=0)
            self._measure(("alignment",), rehearsal.align, "a step on a task", least=FIRST_IMAGES, most=most)

        def embed(count: int) -> object:
            return learner.embed(
                torch.randint(256, (count, channels, size, size), dtype=torch.uint8), batch_size=count
            )

        if self._is_over:  # a pass forward only
            self._loads["embedding",] = self._loads["update",].slowed(1 / 3)
        else:
            self._measure(("embedding",), embed, "the learner", least=FIRST_IMAGES, most=256)
        self._feature_bytes = FITTED_COPIES * 8 * learner.feature_dim

    def teachers(self, objective: Objective, precision: Precision) -> None:
        """Inverting and asking teachers, one of each kind."""
        learner = self._work.learner
        for kind, index in self._kinds.items():
            is_late = time.monotonic() - self._start > self._seconds / 2
            if self._is_over and is_late:  # an inner step asks the learner as an update does
                self._loads["inversion", *kind] = self._loads["update",].slowed(self._work.five.inner_steps)
                self._loads["answers", *kind] = NOTHING
                continue
            if (self._is_over or is_late) and self._tried():
                break
            asking = _asking(self._pool, index, learner.image_size, learner.channels, precision)
            try:
                self._invert(kind, index, objective)
                part = ("answers", *kind)
                self._measure(part, asking, "asking a teacher", least=self._least, most=ASKED_AT_ONCE)
            except (RunError, NoGradientError):  # of one teacher: the run leaves it out by itself
                self._loads.pop(("inversion", *kind), None)

    def drawing(self) -> None:
        """Drawing pictures beside the recovered ones."""
        pool, drawn = self._pool, self._work.memory.drawn_per_step
        shape = (self._work.learner.channels, self._work.learner.image_size)
        if drawn:
            draw = partial(draw_beside, pool, size=shape)
            self._measure(("drawing",), draw, "drawing", least=self._least, most=drawn)

    def so_far(self) -> Trial:
        """What is measured by now; all else counts for nothing."""
        return self._trial({kind_of(record): kind_of(record) for record in self._pool.records})

    def whole(self) -> Trial:
        """What is measured; kinds of teachers that were not tried count as the longest."""
        tried = self._tried()
        longest = max(tried, key=lambda kind: self._loads["inversion", *kind].seconds(FIRST_IMAGES), default=None)
        kinds = {kind_of(record): kind_of(record) for record in self._pool.records}
        return self._trial({kind: kind if kind in tried else longest for kind in kinds})

    def _trial(self, kinds: Mapping[_Kind, _Kind | None]) -> Trial:
        """A trial in which each kind of teacher counts as another; those of None are left out."""
        records = [
            record for record in self._pool.records if record.answers_only or kinds[kind_of(record)] is not None
        ]

        def of_teacher(part: str, record: TeacherRecord) -> Load:
            if record.answers_only:  # a black box computes elsewhere, and asking it may cost
                return NOTHING
            return self._loads.get((part, *(kinds[kind_of(record)] or ())), NOTHING)

        took = time.monotonic() - self._start
        trial = Trial(
            inversions=tuple(of_teacher("inversion", record) for record in records),
            answers=tuple(of_teacher("answers", record) for record in records),
            drawing=self._loads.get(("drawing",), NOTHING),
            update=self._loads.get(("update",), NOTHING),
            embedding=self._loads.get(("embedding",), NOTHING),
            alignment=self._loads.get(("alignment",), NOTHING),
            seconds=took,
            feature_bytes=self._feature_bytes,
        )
        is_cpu = self._inverter.device.type == "cpu"
        return trial.slowed(took / max(self._clock() - self._busy, 1e-3)) if is_cpu else trial

    def _tried(self) -> list[_Kind]:
        """Kinds of teachers of which all is measured."""
        return [kind for kind in self._kinds if ("answers", *kind) in self._loads]

    @property
    def _least(self) -> int:
        """Pictures of the first size of a part that makes sense with one."""
        return 1 if self._is_over else FIRST_IMAGES

    def _measure(self, part: _Part, task: Work, name: str, *, least: int, most: int) -> Load:
        """Measure one part, called `name` in the error, from `least` pictures on."""

        def is_enough(line: Load) -> bool:
            self._loads[part] = line
            self._is_over = self._is_over or self._is_hopeless(self.so_far())
            return self._is_over

        size = self._work.learner.image_size
        try:
            self._loads[part] = measure(
                task,
                self._inverter.device,
                least=least,
                most=most,
                room=self._room,
                seconds=self._seconds / (2 * len(self._kinds) + 3),
                timed=self._timed,
                once=self._is_over,
                is_enough=is_enough,
            )
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            return self._loads[part]
        raise RunError(
            f"{name} does not fit into memory with {min(least, most)} pictures of {size}x{size}",
            allowed="pictures and networks for this machine",
            action="a smaller --image-size or --backbone",
        )

    def _invert(self, kind: _Kind, index: int, objective: Objective) -> None:
        """Inverting one teacher: one inner step is measured, another timed."""
        pool, five, inverter = self._pool, self._work.five, self._inverter
        teacher, before = pool[index], inverter.most_images
        donors = [i for i, record in enumerate(pool.records) if record.has_batchnorm and i not in pool.gone]
        borrows = five.donor_batchnorm and donors and not teacher.record.has_batchnorm
        donor = pool[donors[0]] if borrows else None
        inverter.most_images = None
        full = inverter.task_size(teacher)

        def invert(images: int, steps: int = 1) -> None:
            inverter.most_images = images
            inverter.recover(teacher, index, objective.student, steps=steps, donor=donor)

        part = ("inversion", *kind)
        try:
            line = self._measure(part, invert, "an inversion", least=FIRST_IMAGES, most=full.images)
            one, inner = line.seconds(FIRST_IMAGES), five.inner_steps
            if one <= 0 or inner == 1:
                return
            if self._is_over:  # no inner step takes longer than one alone
                self._loads[part] = line.slowed(inner)
                return
            if one < ONCE_IS_ENOUGH:
                one = busy_seconds_of(partial(invert, FIRST_IMAGES), inverter.device)
            two = busy_seconds_of(partial(invert, FIRST_IMAGES, 2), inverter.device)
            self._loads[part] = line.slowed(1 + (inner - 1) * max(0.0, two - one) / max(one, 1e-9))
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
