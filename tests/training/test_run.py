"""A run that goes on from what an earlier start of it had counted."""

from __future__ import annotations

from pico import pico_teacher
from runs import TINY

from hf_free.config.reading import merge
from hf_free.config.tree import FreeConfig
from hf_free.teachers.pool import TeacherPool
from hf_free.training.folder import RunFolder
from hf_free.training.setup import prepare
from hf_free.training.state import RunState


def test_a_run_goes_on_from_what_it_had_counted(tmp_path):
    teachers = [pico_teacher("conv4", size=16, num_classes=3, seed=seed) for seed in range(2)]
    config = FreeConfig.from_dict(merge(TINY, {"trainer": {"max_minutes": 60.0, "min_steps": 0}}))
    run = prepare(config, RunFolder(tmp_path / "run"), pool=TeacherPool.from_teachers(teachers))
    assert run.clock.seconds() < 60
    run.go_on_from(RunState(step=4, seconds=1800.0))
    assert run.state.step == 4
    assert run.clock.progress(0) >= 0.5
    assert not run.checkpoints.is_due(1, 1800.0, has_recovered=True)
