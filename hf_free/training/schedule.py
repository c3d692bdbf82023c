"""How far a run is: clock, warm-up, learning rate."""

from __future__ import annotations

import math
import time

from hf_free.config.tree import FreeConfig
from hf_free.training.checkpoint import OutOfTime

WARM_UP_SHARE = 0.2
"""Share of a run's minutes that the warm-up takes at most: a short run would recover nothing else."""


class Clock:
    """How far a run is, by steps or by minutes, whichever is further.

    Args:
        config: The run's configuration.
        seconds: Time spent before this start.
        reserve: Seconds of `max_minutes` that are left for what follows the last step; half of them at most.
    """

    def __init__(self, config: FreeConfig, seconds: float, *, reserve: float = 0.0) -> None:
        self._trainer, self._warms_up = config.trainer, config.bell.objective == "distill"
        minutes = config.trainer.max_minutes
        self._limit = None if minutes is None else max(60 * minutes - reserve, 30 * minutes)
        self._start = time.monotonic() - seconds

    def seconds(self) -> float:
        """Wall-clock time spent."""
        return time.monotonic() - self._start

    def progress(self, step: int) -> float:
        """Share of the run that is done after a step, 0 to 1."""
        by_steps = step / self._trainer.steps if self._trainer.steps else 0.0
        return min(1.0, max(by_steps, self._share_of_minutes()))

    def is_over(self, step: int) -> bool:
        """Whether no step is left."""
        return self.progress(step) >= 1

    def check(self) -> None:
        """Asked within a step, as often as something whole is done.

        Raises:
            OutOfTime: the minutes are over.
        """
        if self._share_of_minutes() >= 1:
            raise OutOfTime

    def is_warm_up(self, step: int) -> bool:
        """Whether FIVE only moves its generator in a step: in the first ones, for a fifth of the minutes at most."""
        return step <= self._trainer.warmup_steps and self._share_of_minutes() < WARM_UP_SHARE

    def _share_of_minutes(self) -> float:
        """Share of the minutes that are spent; 0 without a limit, more than 1 beyond it."""
        return self.seconds() / self._limit if self._limit else 0.0

    def learning_rate(self, step: int) -> float:
        """Factor on the learning rate: a tenth of the run up, then a half cosine down to 0; 1 in the paper's way."""
        if not self._warms_up:
            return 1.0
        done = self.progress(step)
        return max(done, 1e-3) / 0.1 if done < 0.1 else 0.5 * (1 + math.cos(math.pi * (done - 0.1) / 0.9))
