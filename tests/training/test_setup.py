"""How a run is put together: one order for training and planning, and refusals before anything is written."""

from __future__ import annotations

import pytest
import torch
from pico import pico_teacher
from runs import TINY

from hf_free.config.reading import merge
from hf_free.config.tree import FreeConfig
from hf_free.errors import ConfigError, RunError
from hf_free.inversion.five import Five
from hf_free.metalearning.distill import Distiller
from hf_free.teachers.pool import TeacherPool
from hf_free.training.folder import RunFolder
from hf_free.training.setup import assemble, check_length, gather, prepare


def config_of(**values: object) -> FreeConfig:
    return FreeConfig.from_dict(merge(TINY, values))


def pool(count: int = 2) -> TeacherPool:
    return TeacherPool.from_teachers([pico_teacher("conv4", size=16, num_classes=3, seed=n) for n in range(count)])


def test_a_run_and_its_plan_are_made_of_the_same_parts(tmp_path):
    config = config_of(trainer={"device": "cpu"})
    planned = assemble(gather(config, pool=pool(), is_planned=True))
    run = prepare(config, RunFolder(tmp_path / "run"), pool=pool())
    assert isinstance(run.inverter, Five)
    assert isinstance(run.objective, Distiller)
    for part in ("learner", "inverter"):
        one, other = (getattr(made, part) for made in (planned, run))
        one, other = (m.generator if part == "inverter" else m for m in (one, other))
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert run.memory.max_images == 100
    assert run.held_out.max_images <= 16
    assert run.memory.answers.values.shape[1] == 6
    assert (run.state.step, len(run.memory)) == (0, 0)


def test_too_few_teachers_are_refused_before_anything_is_written(tmp_path):
    for make in (
        lambda: gather(config_of(), pool=pool(1), is_planned=True),
        lambda: prepare(config_of(), RunFolder(tmp_path / "run"), pool=pool(1)),
    ):
        with pytest.raises(RunError, match="fewer than two tasks: 1 usable"):
            make()
    assert not (tmp_path / "run").exists()


def test_a_run_without_an_end_is_refused():
    with pytest.raises(ConfigError, match="a run without an end"):
        check_length(config_of(trainer={"steps": None}).trainer)
    check_length(config_of().trainer)


@pytest.mark.parametrize("minutes", [None, 30.0])
def test_a_run_that_is_all_warm_up_is_refused(minutes):
    with pytest.raises(ConfigError, match=r"5 steps, all of them warm-up[\s\S]*--steps 21 or more.*warmup_steps=1"):
        check_length(config_of(trainer={"steps": 5, "warmup_steps": 20, "max_minutes": minutes}).trainer)
    check_length(config_of(trainer={"steps": 5, "warmup_steps": 4, "max_minutes": minutes}).trainer)
