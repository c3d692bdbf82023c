"""Which learner of some teachers is likely to be the most accurate, without a real picture: by what was measured of
other sets of teachers (docs/experiments/few-teachers.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

FEW_TEACHERS = 30
"""Up to so many, pooling was the better choice in nearly all sets that were measured (docs/guides/pooled.md)."""


@dataclass(frozen=True)
class Forecast:
    """A guess from how many teachers there are and of how many kinds."""

    likely: Literal["pooled", "trained"]
    """The learner that is likely to be the most accurate."""
    right: int
    """Measured sets of such teachers in which it was."""
    measured: int
    """Measured sets of such teachers."""
    by: str
    """By how much it was ahead."""

    @property
    def text(self) -> str:
        """What is likely, and how often it was so."""
        learner = {"pooled": "a pooled learner", "trained": "the learner that hf-free train makes"}[self.likely]
        return (
            f"{learner} of these teachers is likely to be the most accurate: it was in {self.right} of "
            f"{self.measured} measured sets like this one, {self.by}"
        )


def forecast(architectures: Sequence[str]) -> Forecast:
    """The learner that is likely to be the most accurate: pooled (`hf-free pool`), or one network (`hf-free train`).

    Few teachers, or teachers of several architectures: in five of six sets the pooled learner was above the one that
    `train` makes of recovered tasks, by 3.5 to 12.2 points at 1 shot and by 2.1 to 9.9 at 5 shots; 18 weak ones of six
    architectures are the sixth, where it was 0.9 and 1.0 below. A hundred small teachers of one architecture, one set:
    the pooled learner was 0.8 below at 1 shot and 0.6 above at 5 (docs/guides/pooled.md).

    Args:
        architectures: What each teacher's network is.
    """
    if len(architectures) <= FEW_TEACHERS or len(set(architectures)) > 1:
        return Forecast("pooled", 5, 6, "by 2 to 12 points")
    return Forecast("trained", 1, 1, "by 0.8 points at 1 shot, and 0.6 behind at 5")
