"""A fresh generator for each teacher, as BiDf-MKD and TGR train one."""

from __future__ import annotations

from collections.abc import Callable

import torch

from hf_free.config.recipes import Defects
from hf_free.config.sections import FiveConfig
from hf_free.inversion.base import InversionTarget, InvertsEach, Student, Terms
from hf_free.inversion.five import Five
from hf_free.runtime.chains import ONE_CHAIN, Chains
from hf_free.runtime.device import Precision
from hf_free.runtime.random_streams import UNSEEDED, RandomStreams
from hf_free.teachers.teacher import Teacher

FRESH_STEPS = 200
"""Steps of a generator trained for one teacher alone (BiDf-MKD, Hu et al. 2023; TGR): it has everything to learn."""


class PerTeacherGenerator(InvertsEach):
    """Recovers each task with a generator that starts from random weights and serves this teacher alone.

    Args:
        config: Loss weights, sizes and the inner loop's rates.
        image_size: Height and width of recovered pictures.
        channels: 1 or 3.
        device: Where it computes.
        precision: Autocast type and memory format.
        defects: Defects of the released FREE code to reproduce in the inner loop; None for none.
        steps: Steps of each generator.
        streams: Where random numbers come from.
        chains: The parts of a step's work.
    """

    def __init__(
        self,
        config: FiveConfig,
        *,
        image_size: int,
        channels: int = 3,
        device: torch.device | str = "cpu",
        precision: Precision | None = None,
        defects: Defects | None = None,
        steps: int = FRESH_STEPS,
        streams: RandomStreams = UNSEEDED,
        chains: Chains = ONE_CHAIN,
    ) -> None:
        self.five = Five(
            config,
            image_size=image_size,
            channels=channels,
            device=device,
            precision=precision,
            defects=defects,
            streams=streams,
        )
        self.config, self.steps, self.device, self.chains = config, steps, self.five.device, chains
        self.most_images: int | None = None
        self.pause: Callable[[], None] = lambda: None

    def compile(self) -> None:
        """Have torch.compile compile the generator; its first steps take a minute then."""
        self.five.compile()

    def invert(
        self, teacher: Teacher, index: int, student: Student | None, donor: Teacher | None, steps: int
    ) -> tuple[torch.Tensor, InversionTarget, Terms]:
        """See `InvertsEach.invert`: with a new generator."""
        self.five.renew(index)
        self.five.most_images, self.five.pause = self.most_images, self.pause
        return self.five.adapt(teacher, index, student, steps=steps, donor=donor)
