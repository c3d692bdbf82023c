"""One suite for every way to learn: two steps, the student, a score, a rehearsal, and what a checkpoint holds."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from pico import pico_teacher
from torch import nn

from hf_free.config.sections import BellConfig, LearnerConfig
from hf_free.data.logits import LogitLayout
from hf_free.inversion.task import Health, RecoveredTask
from hf_free.learner.embedding import Embedding
from hf_free.learner.inputs import InputSettings
from hf_free.learner.meta_learner import MetaLearner
from hf_free.memory.bank import TaskMemory
from hf_free.metalearning import task_groups
from hf_free.metalearning.base import Moment, Objective
from hf_free.metalearning.bell import Aligner
from hf_free.metalearning.distill import Distiller
from hf_free.metalearning.episodes import Episodes
from hf_free.metalearning.regularize import Regularizer
from hf_free.runtime.device import Precision
from hf_free.runtime.random_streams import GLOBAL
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.soft_labels import label, teacher_sources

CONFIG = BellConfig(
    **{"batch_size": 8, "updates_per_step": 2, "n_way": 3, "k_shot": 1, "n_query": 2},
    **{"replay_tasks": 1, "replay_patience": 2, "replay_inner_steps": 1},
)
CLASSES = (3, 3)


def make(name: str, *, seed: int = 0) -> Objective:
    torch.manual_seed(seed)
    layout = LogitLayout.of(CLASSES)
    inputs = InputSettings(batchnorm=MODES[name])
    learner = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16), inputs=inputs)
    if name == "distill":
        learner.embedding = Embedding(nn.Linear(learner.backbone_dim, layout.width), layout.sizes)
        return Distiller(learner, layout, CONFIG, Precision())
    if name == "episodes":
        return Episodes(learner, CONFIG, Precision())
    return {"align": Aligner, "regularize": Regularizer}[name](
        learner, CONFIG, Precision(), teachers=len(CLASSES), layout=layout
    )


MODES = {"distill": "running", "align": "support", "regularize": "support", "episodes": "support"}


@pytest.fixture(params=MODES)
def name(request, monkeypatch) -> str:
    monkeypatch.setattr(task_groups, "PROBE_UPDATES", 2)
    return request.param


@pytest.fixture(scope="module")
def pool() -> TeacherPool:
    return TeacherPool.from_teachers([pico_teacher("conv4", size=16, num_classes=n, seed=n) for n in CLASSES])


def tasks_of(pool: TeacherPool, each: int = 6) -> list[RecoveredTask]:
    generator, found = torch.Generator().manual_seed(1), []
    for index, classes in enumerate(CLASSES):
        labels = torch.arange(classes).repeat(each)
        images = torch.randint(256, (len(labels), 3, 16, 16), dtype=torch.uint8, generator=generator)
        soft = pool[index].logits(images.float() / 255).softmax(1).detach()
        health = Health(accuracy=1.0, loss=0.1, diversity=0.2)
        found.append(RecoveredTask(images, labels, soft, tuple(range(classes)), index, f"lab/{index}", health))
    return found


def memory_of(pool: TeacherPool, tasks: list[RecoveredTask]) -> TaskMemory:
    layout, memory = LogitLayout.of(CLASSES), TaskMemory(100, sizes=CLASSES)
    for task in tasks:
        memory.add_task(task, label(teacher_sources(pool, layout), task.images, layout, Precision()))
    return memory


def weights_of(objective: Objective) -> list[torch.Tensor]:
    modules = [objective.learner, *objective.modules().values()]
    return [value.clone() for module in modules for value in module.state_dict().values()]


def test_two_steps_move_the_learner_and_log_finite_terms(name, pool):
    objective, tasks = make(name), tasks_of(pool)
    memory = memory_of(pool, tasks)
    for _ in range(2):
        before = weights_of(objective)
        terms = objective.step(tasks, memory, Moment(is_logged=True))
        assert terms
        assert all(math.isfinite(value) for value in terms.values())
        moved = [not torch.equal(one, other) for one, other in zip(before, weights_of(objective), strict=True)]
        assert any(moved)


def test_without_new_tasks_it_learns_from_the_memory_or_says_that_it_cannot(name, pool):
    objective = make(name)
    terms = objective.step([], memory_of(pool, tasks_of(pool)), Moment())
    assert objective.needs_new_tasks or terms


def test_it_prefers_some_of_the_teachers_that_can_be_inverted(name):
    for usable in ([0, 1], [1]):
        chosen = make(name).preferred(usable, GLOBAL)
        assert chosen
        assert set(chosen) <= set(usable)


def test_the_student_leaves_no_trace(name):
    objective = make(name)
    images = torch.rand(4, 3, 16, 16, requires_grad=True)
    before = weights_of(objective)
    logits = objective.student(images, 1)
    logits.sum().backward()
    assert logits.shape == (4, 3)
    assert images.grad is not None
    assert all(torch.equal(one, other) for one, other in zip(before, weights_of(objective), strict=True))
    assert all(parameter.grad is None for parameter in objective.learner.parameters())


def test_a_score_is_the_same_twice_and_unknown_without_pictures(name, pool):
    objective, held_out = make(name), memory_of(pool, tasks_of(pool))
    scores = [objective.score(held_out, 10), objective.score(held_out, 10, at_once=64)]
    assert math.isfinite(scores[0])
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)
    assert objective.score(TaskMemory(10, sizes=CLASSES), 10) == -math.inf


def test_scoring_looks_at_no_more_pictures_at_once_than_it_may(name, pool):
    objective, held_out, seen = make(name), memory_of(pool, tasks_of(pool)), []
    objective.learner.backbone.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    objective.score(held_out, 10, at_once=7)
    assert sum(seen) == len(held_out)
    assert max(seen) == 7


def test_a_rehearsal_changes_nothing_that_a_run_goes_on_with(name):
    objective = make(name)
    before = weights_of(objective)
    rehearsal = objective.rehearsal()
    assert 1 <= rehearsal.least <= rehearsal.most
    rehearsal.update(rehearsal.least)
    rehearsal.update(rehearsal.most)
    assert (rehearsal.align is not None) == objective.needs_new_tasks  # what is new is learned from whole
    if rehearsal.align is not None:
        rehearsal.align(6)
    assert rehearsal.learner is not objective.learner
    assert all(torch.equal(one, other) for one, other in zip(before, weights_of(objective), strict=True))


def test_it_goes_on_from_what_a_checkpoint_holds(name, pool):
    tasks = tasks_of(pool)
    memory, first, ended = memory_of(pool, tasks), make(name), []
    first.step(tasks, memory, Moment())
    second = make(name, seed=9)
    second.learner.load_state_dict(copy.deepcopy(first.learner.state_dict()))
    for key, module in second.modules().items():
        module.load_state_dict(copy.deepcopy(first.modules()[key].state_dict()))
    for old, new in zip(first.optimizers(), second.optimizers(), strict=True):
        new.load_state_dict(copy.deepcopy(old.state_dict()))
    second.load_tensors({key: value.clone() for key, value in first.tensors().items()})
    for objective in (first, second):
        torch.manual_seed(3)
        objective.step(tasks, memory, Moment(rate=0.5))
        ended.append(weights_of(objective))
    assert all(torch.equal(one, other) for one, other in zip(*ended, strict=True))


def test_what_is_raised_in_a_pause_ends_the_step_between_two_updates(name, pool):
    objective, tasks = make(name), tasks_of(pool)

    def stop() -> None:
        raise TimeoutError

    before = weights_of(objective)
    with pytest.raises(TimeoutError):
        objective.step(tasks, memory_of(pool, tasks), Moment(pause=stop))
    parameters = [value for value in before if value.is_floating_point()]
    assert all(torch.isfinite(value).all() for value in parameters)
    assert all(torch.equal(one, other) for one, other in zip(before, weights_of(objective), strict=True))
