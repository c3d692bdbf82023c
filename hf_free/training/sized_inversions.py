"""How many pictures an inversion makes, so that it fits into memory: measured with few pictures first."""

from __future__ import annotations

from functools import partial

import torch

from hf_free.inversion.base import Inverter
from hf_free.inversion.differentiable import NoGradientError
from hf_free.runtime.device import is_out_of_memory
from hf_free.runtime.memory_budget import SHARE_OF_FREE, free_memory
from hf_free.teachers.pool import TeacherPool
from hf_free.training.estimate import kind_of
from hf_free.training.trial import FIRST_IMAGES, measure

TRIAL_SECONDS = 2.0
"""Time for each kind of teacher, about, beyond the two smallest sizes."""


def images_that_fit(inverter: Inverter, pool: TeacherPool, *, share: float = SHARE_OF_FREE) -> int | None:
    """Most pictures of one inversion for which the memory suffices, whichever teacher is inverted.

    One inner step of each kind of teacher is measured. What the inverter has trained does not move, and torch's global
    random numbers are put back.

    Args:
        inverter: Used as it is.
        pool: Teachers that can be inverted.
        share: Share of the free memory that an inversion may take.

    Returns:
        None where no teacher can be inverted in two classes of two pictures, the least that there is. A teacher too
        large for that by itself, or of which no gradient comes back, does not count: its task says so.
    """
    device, before = inverter.device, inverter.most_images
    room, fitting, is_left_out = share * free_memory(device), list[int](), False

    def invert(images: int, place: int) -> None:
        inverter.most_images = images
        inverter.recover(pool[place], place, steps=1)

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for place in {kind_of(record): place for place, record in enumerate(pool.records)}.values():
            inverter.most_images = None
            most = inverter.task_size(pool[place]).images
            try:
                load = measure(
                    partial(invert, place=place),
                    device,
                    least=FIRST_IMAGES,
                    most=most,
                    room=room,
                    seconds=TRIAL_SECONDS,
                    timed=False,
                )
            except NoGradientError:  # its task says so
                is_left_out = True
                continue
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                continue
            fitting.append(load.images_within(room))
    inverter.most_images = before
    least = min(fitting, default=FIRST_IMAGES if is_left_out else 0)
    return least if least >= FIRST_IMAGES else None
