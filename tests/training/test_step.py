"""One step of a run: what is recovered goes into the memory, and the learner learns from the memory."""

from __future__ import annotations

import pytest
import torch
from pico import pico_teacher
from runs import TINY

from hf_free.config.reading import merge
from hf_free.config.tree import FreeConfig
from hf_free.teachers.pool import TeacherPool
from hf_free.training.folder import RunFolder
from hf_free.training.schedule import OutOfTime
from hf_free.training.setup import prepare
from hf_free.training.step import take_step


@pytest.fixture
def run(tmp_path):
    teachers = [pico_teacher("conv4", size=16, num_classes=3, seed=seed) for seed in range(2)]
    config = FreeConfig.from_dict(merge(TINY, {"trainer": {"steps": 10}}))
    return prepare(config, RunFolder(tmp_path / "run"), pool=TeacherPool.from_teachers(teachers))


def _weights(run):
    return torch.cat([weight.detach().flatten().clone() for weight in run.learner.backbone.parameters()])


def _steps(run, count):
    for _ in range(count):
        run.state.step += 1
        run.streams.begin(run.state.step)
        take_step(run, terms := {})
    return terms


def test_warm_up_keeps_nothing_and_teaches_nothing(run):
    before = _weights(run)
    terms = _steps(run, 1)
    assert "teacher_accuracy" in terms
    assert "answers" not in terms
    assert len(run.memory) == 0
    assert torch.equal(_weights(run), before)


def test_a_step_recovers_then_learns(run):
    before = _weights(run)
    terms = _steps(run, 5)
    recovered = run.state.pictures
    assert recovered > 0
    assert len(run.memory) > 0
    assert {"teacher_accuracy", "answers"} <= terms.keys()
    assert not torch.equal(_weights(run), before)


def test_the_last_part_of_a_run_learns_without_recovering(run):
    _steps(run, 7)
    pictures, before = run.state.pictures, _weights(run)
    terms = _steps(run, 1)
    assert run.state.pictures == pictures
    assert "answers" in terms
    assert not torch.equal(_weights(run), before)


def test_a_step_without_time_keeps_nothing(run):
    def out_of_time():
        raise OutOfTime

    _steps(run, 1)
    run.inverter.pause = out_of_time
    with pytest.raises(OutOfTime):
        _steps(run, 1)
    assert len(run.memory) == 0
    assert run.state.pictures == 0
