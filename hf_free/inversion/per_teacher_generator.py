"""A fresh generator for each teacher, as BiDf-MKD and TGR train one."""

from __future__ import annotations

from hf_free.inversion.five import Five
from hf_free.inversion.task import RecoveredTask, finish_task
from hf_free.teachers.teacher import Teacher

FRESH_STEPS = 200
"""Steps of a generator trained for one teacher alone (BiDf-MKD, Hu et al. 2023; TGR)."""


def fresh_generator_task(five: Five, teacher: Teacher, index: int = 0, *, steps: int = FRESH_STEPS) -> RecoveredTask:
    """Recover a task with a generator that starts from random weights and serves this teacher alone.

    `five`'s generator is used for it, and gets the new random weights: pass one that nobody needs any more.
    """
    renew(five)
    images, wanted, _ = five.adapt(teacher, index, steps=steps)
    return finish_task(images, wanted.labels, wanted.classes, teacher, index)


def renew(five: Five) -> None:
    """Give the generator new random weights, from torch's random state."""
    five.generator.load_state_dict(_fresh(five).generator.state_dict())


def _fresh(five: Five) -> Five:
    """A FIVE of the same kind that has learned nothing."""
    generator = five.generator
    return Five(
        five.config,
        image_size=generator.image_size,
        channels=generator.to_picture.out_channels,
        device=five.device,
        precision=five.precision,
    )
