"""How far a run is: clock, warm-up, learning rate, and when checkpoints are due."""

from __future__ import annotations

import math
import time

from hf_free.config.sections import TrainerConfig

WARM_UP_SHARE = 0.2
"""Largest share of a run's minutes for the warm-up: otherwise a short run would recover nothing."""


SHARE_OF_UPDATES = 0.25
"""Share of a recovering step's time that goes into updates of the learner: 0.22 with a hundred Conv-4, less with
teachers that are deeper or have larger pictures (docs/experiments/whole-runs.md). Steps that recover nothing update
all the time."""


class OutOfTime(Exception):
    """The minutes of a run are over in the middle of a step: unfinished work is dropped, finished work stays."""


class Clock:
    """How far a run is, by steps or by minutes, whichever is further.

    Args:
        trainer: Steps, minutes and warm-up.
        seconds: Time spent before this start.
        reserve: Seconds of `max_minutes` that are left for what follows the last step; half of them at most.
        recover_share: Share of the run in which steps recover tasks.
    """

    def __init__(
        self, trainer: TrainerConfig, seconds: float, *, reserve: float = 0.0, recover_share: float = 1.0
    ) -> None:
        self._trainer, minutes = trainer, trainer.max_minutes
        self._recover_share = recover_share
        self._limit = None if minutes is None else max(60 * minutes - reserve, 30 * minutes)
        self._start = time.monotonic() - seconds
        self._held: float | None = None

    def seconds(self) -> float:
        """Wall-clock time spent; the time at which the clock is held, if it is."""
        return self.running() if self._held is None else self._held

    def running(self) -> float:
        """Wall-clock time spent, held or not."""
        return time.monotonic() - self._start

    def hold(self, seconds: float) -> None:
        """Stand still at this time until the next call: one time for all processes."""
        self._held = seconds

    def progress(self, step: int) -> float:
        """Share of the run that is done after a step, 0 to 1."""
        return min(1.0, max(self._share_of_steps(step), self._share_of_minutes()))

    def is_over(self, step: int) -> bool:
        """Whether no step is left."""
        return self.progress(step) >= 1

    def check(self) -> None:
        """To be called within a step whenever something whole is done.

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
        """Factor on the learning rate: over a tenth of the updates up, then a half cosine down to 0.

        Of a run that the clock ends most updates come after its last recovered task. If the rate fell with the clock,
        they would have little of it left: 0.5 points less in five minutes (docs/experiments/whole-runs.md).
        """
        done = min(1.0, max(self._share_of_steps(step), self._share_of_updates()))
        return max(done, 1e-3) / 0.1 if done < 0.1 else 0.5 * (1 + math.cos(math.pi * (done - 0.1) / 0.9))

    def _share_of_steps(self, step: int) -> float:
        """Share of the steps that are done; 0 without a limit."""
        return step / self._trainer.steps if self._trainer.steps else 0.0

    def _share_of_updates(self) -> float:
        """Share of the updates that are done, as far as the clock tells; 0 without a limit."""
        spent, recovering = self._share_of_minutes(), self._recover_share
        done = SHARE_OF_UPDATES * min(spent, recovering) + max(spent - recovering, 0)
        return done / (SHARE_OF_UPDATES * recovering + 1 - recovering)


FIRST_CHECKPOINT_SECONDS = 60.0
"""Seconds of a run after which its first checkpoint is written, as soon as anything is recovered."""

SHARE_BETWEEN_CHECKPOINTS = 0.25
"""Largest share of a run's minutes between two checkpoints, so that short runs have some."""

CHECKPOINT_COST = 20
"""Checkpoints that take long are written less often: this many times as long lies between two."""


class CheckpointClock:
    """When a checkpoint is due by the clock: first after a minute, then at intervals; in a short run all come sooner.

    Args:
        minutes: The usual interval.
        of_minutes: Minutes of the whole run; None where the clock does not end it.
        seconds: Time spent before this start.
    """

    def __init__(self, minutes: float, of_minutes: float | None, seconds: float) -> None:
        limit = SHARE_BETWEEN_CHECKPOINTS * 60 * of_minutes if of_minutes else math.inf
        self._between = min(60 * minutes, limit)
        self._next = seconds + min(FIRST_CHECKPOINT_SECONDS, self._between)

    def is_due(self, seconds: float) -> bool:
        """Whether one is due so many seconds into the run."""
        return seconds >= self._next

    def written(self, seconds: float, *, took: float) -> None:
        """Take note that one is written, so many seconds into the run, and how many it took."""
        self._next = seconds + max(self._between, CHECKPOINT_COST * took)


class CheckpointSchedule:
    """When a run writes a checkpoint: every `trainer.checkpoint_every` steps, and by the clock.

    By the clock the first comes after the first minute that recovered something, the others every
    `trainer.checkpoint_minutes`; in a short run all come sooner.

    Args:
        trainer: When, as the configuration says.
        seconds: Time spent before this start.
    """

    def __init__(self, trainer: TrainerConfig, seconds: float) -> None:
        self._clock = CheckpointClock(trainer.checkpoint_minutes, trainer.max_minutes, seconds)
        self._is_first = True
        self._every, self._asked_at = trainer.checkpoint_every, seconds

    def is_due(self, step: int, seconds: float, *, has_recovered: bool) -> bool:
        """Whether one is due after a step, so many seconds into the run; the clock's first waits for pictures."""
        self._asked_at = seconds
        by_clock = self._clock.is_due(seconds) and (has_recovered or not self._is_first)
        return by_clock or step % self._every == 0

    def written(self, seconds: float) -> None:
        """Take note that the one that was due is written, so many seconds into the run."""
        self._is_first = False
        self._clock.written(seconds, took=seconds - self._asked_at)
