"""A workload's values by `section.key`."""

from __future__ import annotations

from hf_free.config.sections import BellConfig, FiveConfig, LearnerConfig, MemoryConfig, TrainerConfig
from hf_free.training.workload import Workload


def test_one_value_is_changed_and_the_others_stay():
    work = Workload(FiveConfig(), MemoryConfig(), BellConfig(n_query=3), LearnerConfig(), TrainerConfig())
    changed = work.with_value("bell.batch_size", 7)
    assert (changed.value("bell.batch_size"), changed.value("bell.n_query")) == (7, 3)
    assert work.value("bell.batch_size") == BellConfig().batch_size
    assert (changed.five, changed.memory, changed.learner) == (work.five, work.memory, work.learner)


def test_what_distils_is_said_by_the_objective():
    sections = (FiveConfig(), MemoryConfig(), BellConfig(), LearnerConfig(), TrainerConfig())
    assert Workload(*sections).distills
    assert not Workload(*sections).with_value("bell.objective", "align").distills
