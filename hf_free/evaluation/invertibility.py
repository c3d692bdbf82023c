"""How well a teacher can be inverted: a few inner steps from a fresh generator, measured and put into one word."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Literal

import torch

from hf_free.config.sections import FiveConfig
from hf_free.inversion.five import Five
from hf_free.inversion.task import finish_task
from hf_free.provenance.reading import Json
from hf_free.runtime.device import Precision
from hf_free.teachers.loader import try_out
from hf_free.teachers.teacher import Teacher

GOOD, FAIR = 0.8, 0.3
"""Shares of recognized pictures from which on a verdict is `good` or `fair`. Measured on 22 real teachers (see
docs/experiments): those above the first had 89 to 100 % after 20 steps, those between the two 95 to 100 %, the one
below 74 %."""

NEAR, FAR = 1.0, 10.0
"""BatchNorm distances above which a verdict is `fair` at best or `poor`. 1 is a stored deviation in every channel; the
22 real teachers were at 0.03 to 0.23. Far beyond it, the statistics are not those of the pictures that a network was
trained on: with its variances lost a teacher may recognize 96 % at a distance of 25,000."""

MAX_SIZE = 64
"""Most pixels per side of the pictures. A larger teacher gets them enlarged, as in a run, where pictures have the
learner's size; at 224 pixels the measurement would take minutes instead of seconds."""

LEGEND = (
    f"good: {GOOD:.0%} or more recognized, a loss below chance, BatchNorm statistics to go by and at most {NEAR:g} "
    f"away; fair: {FAIR:.0%} or more, and no such statistics or up to {FAR:g} away. "
    "Loss: cross-entropy in nats. Diversity: distance of pictures of one class, to compare networks of one kind by. "
    "BatchNorm distance: 0 is the statistics of the training pictures."
)
"""What the words and numbers of a measurement mean, for tables."""

Verdict = Literal["good", "fair", "poor"]


@dataclass(frozen=True)
class Invertibility:
    """Result of a short inversion of one teacher."""

    steps: int
    """Inner steps taken."""
    images: int
    """Pictures made."""
    classes: int
    """Classes they were made for."""
    loss: float
    """Cross-entropy of the finished pictures to those classes, in nats."""
    chance: float
    """The loss of a teacher that cannot tell the classes apart: the logarithm of their number."""
    recognized: float
    """Share of the pictures that the teacher puts into the class they were made for, among these classes."""
    diversity: float
    """Mean cosine distance of the teacher's features within a class; what counts as large depends on the network."""
    statistics: float | None
    """Distance to the teacher's BatchNorm statistics at the last step; None without BatchNorm."""

    @property
    def verdict(self) -> Verdict:
        """`good`, `fair` or `poor`, by the share of recognized pictures, the loss and the statistics.

        It is `fair` at best without BatchNorm statistics, where only the answers say what pictures are like, and with
        a loss above chance, where the teacher is certain that unrecognized pictures show something else.
        """
        distance = math.inf if self.statistics is None else self.statistics
        is_sick = self.statistics is not None and not distance <= FAR  # comparisons with NaN are false
        if not math.isfinite(self.loss) or self.recognized < FAIR or is_sick:
            return "poor"
        is_good = self.recognized >= GOOD and self.loss <= self.chance and distance <= NEAR
        return "good" if is_good else "fair"

    def to_dict(self) -> Json:
        """The measurement and its verdict as plain JSON types; numbers that are not finite are None."""
        values = {**asdict(self), "verdict": self.verdict}
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


def measure_invertibility(
    teacher: Teacher, *, steps: int = 5, images_per_class: int = 10, max_classes: int = 10, seed: int = 0
) -> Invertibility:
    """Invert a teacher for a few steps from a fresh generator, with the default recipe's rates and weights.

    A trained meta-generator does better than a fresh one; the figures are for comparing teachers with each other. The
    caller's random numbers are left as they were. Pictures have the teacher's size, at most `MAX_SIZE` pixels a side.

    Args:
        teacher: The teacher to invert.
        steps: Inner steps; FREE's k is 5.
        images_per_class: Images per class.
        max_classes: Classes at most; of a larger head a random subset is taken.
        seed: Seed of generator, latents, canvases and that subset.
    """
    if not teacher.has_answered:  # made of a network in memory
        try_out(teacher)
    config = FiveConfig(images_per_class=images_per_class, max_classes=max_classes)
    devices = [teacher.device] if teacher.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        five = Five(
            config,
            image_size=min(MAX_SIZE, max(teacher.record.input_size[1:])),
            channels=teacher.record.input_size[0],
            device=teacher.device,
            precision=Precision.choose("auto", teacher.device),
        )
        pictures, wanted, terms = five.adapt(teacher, steps=steps)
    task = finish_task(pictures, wanted.labels, wanted.classes, teacher, 0)
    return Invertibility(
        steps=steps,
        images=len(pictures),
        classes=len(wanted.classes),
        loss=task.health.loss,
        chance=math.log(len(wanted.classes)),
        recognized=task.health.accuracy,
        diversity=task.health.diversity,
        statistics=float(terms["batchnorm"]) if "batchnorm" in terms else None,
    )
