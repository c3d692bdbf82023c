"""The clock of a run, its warm-up, its learning rate, its checkpoints."""

from __future__ import annotations

import math

import pytest
from runs import TINY

from hf_free.config.reading import merge
from hf_free.config.sections import TrainerConfig
from hf_free.config.tree import FreeConfig
from hf_free.training.schedule import CheckpointSchedule, Clock


def _config(**values):
    return FreeConfig.from_dict(merge(TINY, values))


def test_clock_by_steps_and_minutes():
    clock = Clock(_config(trainer={"steps": 40}).trainer, 0.0)
    assert [clock.progress(step) for step in (0, 10, 40, 50)] == [0, 0.25, 1, 1]
    assert not clock.is_over(39)
    assert clock.is_over(40)
    both = Clock(_config(trainer={"steps": 40, "max_minutes": 1.0}).trainer, 45.0)  # resumed after 45 seconds
    assert both.progress(4) == pytest.approx(0.75, abs=0.01)  # whichever is further
    assert both.progress(36) == pytest.approx(0.9)


def test_warm_up_is_over_after_its_steps_or_a_fifth_of_the_minutes():
    by_steps = Clock(_config(trainer={"steps": 40, "warmup_steps": 30}).trainer, 1e6)
    assert [by_steps.is_warm_up(step) for step in (1, 30, 31)] == [True, True, False]
    for seconds, expected in ((5.0, True), (11.0, True), (13.0, False)):
        clock = Clock(_config(trainer={"steps": 40, "warmup_steps": 30, "max_minutes": 1.0}).trainer, seconds)
        assert clock.is_warm_up(30) is expected
        assert not clock.is_warm_up(31)


def test_learning_rate_climbs_then_falls_by_half_a_cosine():
    clock = Clock(_config(trainer={"steps": 1000}).trainer, 0.0)
    found = [clock.learning_rate(step) for step in (0, 50, 100, 325, 550, 775, 1000)]
    expected = [0.01, 0.5, 1.0, *(0.5 + 0.5 * math.cos(math.pi * x) for x in (0.25, 0.5, 0.75)), 0.0]
    assert found == pytest.approx(expected)


def test_the_learning_rate_falls_with_the_updates_not_with_the_clock():
    def rate(share, recover_share, **trainer):
        config = _config(trainer={"max_minutes": 1.0, "steps": None, **trainer})
        return Clock(config.trainer, 60 * share, recover_share=recover_share).learning_rate(0)

    # in 60 % of the time a quarter goes into updates, and then all: 0.15 of 0.55 are done by then, 0.35 at 80 %
    for spent, done in ((0.6, 0.15 / 0.55), (0.8, 0.35 / 0.55), (0.9, 0.45 / 0.55)):
        assert rate(spent, 0.6) == pytest.approx(0.5 + 0.5 * math.cos(math.pi * (done - 0.1) / 0.9), abs=0.01)
    assert rate(0.1, 0.6) == pytest.approx(0.025 / 0.55 / 0.1, abs=0.01)
    assert rate(1.0, 0.6) == pytest.approx(0, abs=1e-9)
    assert rate(0.55, 1.0) == pytest.approx(0.5, abs=0.01)  # tasks until the end: updates are as far as the clock
    assert Clock(_config(trainer={"steps": 10}).trainer, 0.0, recover_share=0.3).learning_rate(10) == 0


@pytest.mark.parametrize(
    ("minutes", "between", "expected"),
    [
        (None, 5, [60, 360, 660, 960]),  # a minute, then every five
        (30, 5, [60, 360, 660, 960]),
        (2, 5, [30, 60, 90]),  # a quarter of a short run
        (None, 0.5, [30, 60, 90]),
    ],
)
def test_when_the_clock_writes_checkpoints(minutes, between, expected):
    config = FreeConfig.from_dict({"trainer": {"max_minutes": minutes, "steps": 10**6, "checkpoint_minutes": between}})
    schedule, written = CheckpointSchedule(config.trainer, 0.0), []
    for second in range(1, expected[-1] + 1):
        if schedule.is_due(1, float(second), has_recovered=True):
            schedule.written(float(second))
            written.append(second)
    assert written == expected


def test_the_clocks_first_checkpoint_waits_for_a_picture_and_slow_ones_are_seldom():
    schedule = CheckpointSchedule(TrainerConfig(checkpoint_every=100), 0.0)
    assert not schedule.is_due(1, 100.0, has_recovered=False)
    assert schedule.is_due(100, 101.0, has_recovered=False)  # by steps
    assert schedule.is_due(2, 120.0, has_recovered=True)
    schedule.written(150.0)  # took half a minute: nine more would be a tenth of the run
    assert not schedule.is_due(3, 150.0 + 20 * 30 - 1, has_recovered=True)
    assert schedule.is_due(3, 150.0 + 20 * 30, has_recovered=True)
