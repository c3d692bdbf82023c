"""Which tasks and teachers are left out, and what is said of it."""

from __future__ import annotations

import logging

import pytest
import torch
from pico import pico_folder, pico_teacher
from torch import nn

from hf_free.config.reading import merge
from hf_free.config.recipes import recipe_values
from hf_free.config.sections import HubConfig, LearnerConfig
from hf_free.config.tree import FreeConfig
from hf_free.data.logit_rows import LogitRows
from hf_free.data.logits import LogitLayout
from hf_free.errors import RunError
from hf_free.inversion.task import Health, RecoveredTask
from hf_free.learner.embedding import Embedding
from hf_free.learner.meta_learner import MetaLearner
from hf_free.memory.bank import TaskMemory
from hf_free.runtime.chains import ONE_CHAIN
from hf_free.teachers.pool import TeacherPool
from hf_free.training.screening import (
    check_recovered,
    health_of,
    healthy_tasks,
    leave_out_gone,
    leave_out_silent,
    note_teachers,
    welcome_back,
)
from hf_free.training.state import RunState


def make_task(teacher: int, accuracy: float, diversity: float = 0.2) -> RecoveredTask:
    """Two black pictures of two classes."""
    health = Health(accuracy=accuracy, loss=0.1, diversity=diversity)
    images, labels = torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.arange(2)
    return RecoveredTask(images, labels, torch.eye(2), (0, 1), teacher, f"lab/{teacher}", health)


@pytest.fixture
def pool() -> TeacherPool:
    return TeacherPool.from_teachers([pico_teacher("conv4", seed=seed) for seed in (0, 1)])


def config_with(**five: float) -> FreeConfig:
    return FreeConfig.from_dict(merge(recipe_values("default"), {"five": five, "trainer": {"warmup_steps": 0}}))


def test_a_teachers_first_task_that_is_left_out_is_said_at_once(pool, caplog):
    config, state = config_with(min_teacher_accuracy=0.5), RunState()
    with caplog.at_level(logging.WARNING, logger="hf_free"):
        for _ in range(3):
            assert healthy_tasks([make_task(0, 0.9), make_task(1, 0.3)], config.five, state, pool)[0].teacher == 0
    said = [record.message for record in caplog.records]
    assert len(said) == 1
    assert said[0].startswith("a task of lab/1 is left out: ")
    assert "30" in said[0]
    assert list(state.left_out.values()) == [3]


def test_nothing_recovered_says_why_and_what_would_help(pool):
    config, state = config_with(min_teacher_accuracy=0.5, min_diversity=0.3), RunState(step=2)
    healthy_tasks([make_task(0, 0.9), make_task(1, 0.3)], config.five, state, pool)
    with pytest.raises(RunError, match=r"no task was recovered in 2 steps") as caught:
        check_recovered(TaskMemory(10), pool, state, config.five, warm_up=0)
    for words in ("lab/0: ", "lab/1: ", "(1 times)", "five.min_teacher_accuracy=0 five.min_diversity=0"):
        assert words in str(caught.value)
    assert "warmup_steps=0" not in str(caught.value), "there was none"
    with pytest.raises(RunError, match=r"in 2 steps \(warm-up: 50 at most\)[\s\S]*--set trainer\.warmup_steps=0 five"):
        check_recovered(TaskMemory(10), pool, state, config.five, warm_up=50)  # which minutes ended


def test_tasks_of_a_single_teacher_are_pointed_out(pool, caplog):
    memory, config = TaskMemory(10), config_with()
    memory.add_task(make_task(1, 0.9))
    with caplog.at_level(logging.WARNING, logger="hf_free"):
        check_recovered(memory, pool, RunState(left_out={"lab/0: recognizes 3 %": 4}), config.five, warm_up=0)
    assert caplog.records[0].message.startswith("all recovered pictures are of one teacher, ")
    assert "lab/0: recognizes 3 % (4 times)" in caplog.records[0].message
    caplog.clear()
    memory.add_task(make_task(0, 0.9))
    check_recovered(memory, pool, RunState(), config.five, warm_up=0)
    assert not caplog.records


def test_health_is_the_mean_of_a_steps_tasks():
    assert health_of([]) == {}
    assert health_of([make_task(0, 1.0, 0.1), make_task(1, 0.5, 0.3)]) == pytest.approx(
        {"teacher_accuracy": 0.75, "diversity": 0.2}
    )


def test_a_teacher_that_was_never_asked_is_not_said_to_have_answered_nothing(caplog):
    teachers = [pico_teacher("conv4", num_classes=2, size=16, seed=seed) for seed in range(3)]
    pool, layout = TeacherPool.from_teachers(teachers), LogitLayout.of([2, 2, 2])
    memory = TaskMemory(10, sizes=layout.sizes, asked=1)
    learner = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16), embedding=Embedding(nn.Linear(8, 6)))
    said = LogitRows(torch.tensor([[0.5, 1.0], [torch.nan, torch.nan]]), (2, 2, 2), torch.tensor([[0], [1]]))
    memory.add_pictures(torch.zeros(2, 3, 16, 16, dtype=torch.uint8), said)
    with caplog.at_level(logging.WARNING, logger="hf_free"):
        gone = leave_out_silent(learner, layout, memory, pool, RunState(asked=[1, 1, 0]))
    assert gone == [1, 2]
    first, second = (record.message for record in caplog.records)
    assert "it answered none of the pictures" in first
    assert "too short to ask it" in second
    assert "--max-minutes" in second


def test_teachers_that_have_gone_are_left_out_until_they_are_back(caplog):
    pool, state = TeacherPool.from_teachers([pico_teacher("conv4", seed=seed) for seed in range(3)]), RunState()
    five, name = config_with().five, pool.records[1].reference
    pool.gone[1] = "it does not exist"
    for _ in range(2):
        leave_out_gone(pool, ONE_CHAIN, five, state)
    assert state.gone == [1]
    assert [entry["reason"] for entry in state.skipped] == ["it cannot be loaded any more: it does not exist"]
    assert caplog.text.count(f"left out: {name}: it cannot be loaded any more") == 1
    state.skipped.append({"reference": name, "reason": "not inverted any more: too little variety"})
    pool.gone.clear()
    welcome_back(pool, state)
    assert state.gone == []
    assert [entry["reason"] for entry in state.skipped] == ["not inverted any more: too little variety"]
    assert f"{name} can be loaded again" in caplog.text
    pool.gone.update({0: "gone", 2: "gone"})
    with pytest.raises(RunError, match="fewer than two tasks: 1 usable"):
        leave_out_gone(pool, ONE_CHAIN, five, state)


def test_a_teacher_that_is_named_twice_is_said_when_a_run_begins(tmp_path, caplog):
    folder = str(pico_folder(tmp_path / "a", "conv4", size=16))
    note_teachers(TeacherPool([folder, folder]), HubConfig(), RunState(), None, ["identity"])
    assert "the same teacher more than once" in caplog.text
