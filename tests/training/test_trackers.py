"""What is logged, and when."""

from __future__ import annotations

from runs import TINY

from hf_free.config.reading import merge
from hf_free.config.tree import FreeConfig
from hf_free.training.trackers import is_logged


def _config(**values):
    return FreeConfig.from_dict(merge(TINY, values))


def test_the_first_ten_steps_and_every_nth_are_logged():
    """A short run has curves; how often the later ones are logged is not how many first ones are."""
    for log_every, expected in ((1, range(1, 41)), (25, [*range(1, 11), 25]), (1000, range(1, 11))):
        config = _config(trainer={"log_every": log_every})
        assert [step for step in range(1, 41) if is_logged(step, config.trainer.log_every)] == list(expected)
