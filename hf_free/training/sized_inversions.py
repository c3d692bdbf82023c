"""How many pictures an inversion makes, so that it fits into memory and time: measured with few pictures first."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch

from hf_free.inversion.base import Inverter
from hf_free.runtime.device import is_out_of_memory
from hf_free.runtime.memory_budget import SHARE_OF_FREE, free_memory
from hf_free.teachers.pool import TeacherPool
from hf_free.training.estimate import kind_of
from hf_free.training.trial import FIRST_IMAGES, Load, measure

LEAST_IMAGES = 4
"""Two classes of two pictures: below that there is no task."""

TRIAL_SECONDS = 2.0
"""Of one kind of teacher, about, beyond the two smallest sizes."""


@dataclass(frozen=True)
class Inversions:
    """What inverting a pool's teachers takes: one inner step of each kind of teacher."""

    loads: tuple[Load, ...]
    """One for each kind that fits into memory."""
    refused: int = 0
    """Kinds of which not even the smallest task fits."""
    room: float = 0.0
    """Bytes that an inversion may take."""

    def within(self, seconds: float) -> int | None:
        """Pictures of one inversion that fit into memory and, one inner step each, on average into so many seconds.

        None where memory is too small for `LEAST_IMAGES`; where time is, they are that many.
        """
        fits = min((load.images_within(self.room) for load in self.loads), default=0)
        if fits < LEAST_IMAGES:
            return None
        fixed, each = (
            sum(getattr(load, name) for load in self.loads) / len(self.loads)
            for name in ("fixed_seconds", "image_seconds")
        )
        return int(max(LEAST_IMAGES, min(fits, (seconds - fixed) / max(each, 1e-9))))


def try_inversions(inverter: Inverter, pool: TeacherPool, *, timed: bool = True) -> Inversions:
    """Measure one inner step of each kind of teacher; what the inverter has trained does not move.

    Args:
        inverter: Used as it is; torch's global random numbers are put back.
        pool: Teachers that can be inverted.
        timed: Whether time is wanted, beside memory.
    """
    device, before = inverter.device, inverter.most_images
    room = SHARE_OF_FREE * free_memory(device)
    loads, refused = list[Load](), 0

    def invert(images: int, place: int) -> None:
        inverter.most_images = images
        inverter.recover(pool[place], place, steps=1)

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for place in {kind_of(record): place for place, record in enumerate(pool.records)}.values():
            inverter.most_images = None
            most, work = inverter.task_size(pool[place]).images, partial(invert, place=place)
            try:
                load = measure(
                    work, device, least=FIRST_IMAGES, most=most, room=room, seconds=TRIAL_SECONDS, timed=timed
                )
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                refused += 1
            else:
                loads.append(load)
    inverter.most_images = before
    return Inversions(tuple(loads), refused, room)
