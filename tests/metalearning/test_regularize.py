"""TGR in a run: it waits for all teachers, groups them, draws a group's, and takes one step on their tasks."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from hf_free.config.sections import BellConfig, LearnerConfig
from hf_free.inversion.task import Health, RecoveredTask
from hf_free.learner.inputs import InputSettings
from hf_free.learner.meta_learner import MetaLearner
from hf_free.memory.bank import TaskMemory
from hf_free.metalearning import task_groups
from hf_free.metalearning.base import Moment
from hf_free.metalearning.regularize import Regularizer
from hf_free.runtime.device import Precision
from hf_free.runtime.random_streams import RandomStreams


@pytest.fixture(autouse=True)
def _quick_probe(monkeypatch):
    monkeypatch.setattr(task_groups, "PROBE_UPDATES", 2)


def _task(teacher: int, classes: int = 3) -> RecoveredTask:
    generator = torch.Generator().manual_seed(teacher)
    labels = torch.arange(classes).repeat(4)
    images = torch.randint(256, (len(labels), 3, 16, 16), dtype=torch.uint8, generator=generator)
    soft = torch.randn(len(labels), classes, generator=generator).softmax(1)
    return RecoveredTask(images, labels, soft, tuple(range(classes)), teacher, f"t{teacher}", Health(1.0, 0.1, 0.1))


def _regularizer(teachers: int = 4, **values) -> Regularizer:
    torch.manual_seed(0)
    learner = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16), inputs=InputSettings(batchnorm="support"))
    config = BellConfig(**{"objective": "regularize", "replay_tasks": 0, "groups": 2, **values})
    return Regularizer(learner, config, Precision(), teachers=teachers, streams=RandomStreams(0), flip=False)


def _weights(one: Regularizer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in one.network.parameters()])


def _met(one: Regularizer, teachers: range) -> TaskMemory:
    memory = TaskMemory(1000)
    for teacher in teachers:
        memory.add_task(_task(teacher))
        one.step([_task(teacher)], memory, Moment())
    return memory


def test_it_wants_those_it_has_not_met_and_learns_nothing_until_it_has():
    one = _regularizer()
    stream, before = RandomStreams(0).stream("groups"), _weights(one)
    assert one.preferred([0, 1, 2, 3], stream) == [0, 1, 2, 3]
    assert one.step([_task(0), _task(2)], TaskMemory(10), Moment()) == {"teachers_met": 2.0}
    assert one.preferred([0, 1, 2, 3], stream) == [1, 3]
    assert torch.equal(_weights(one), before)


def test_then_each_step_wants_one_group_and_every_group_has_its_turn():
    one = _regularizer()
    _met(one, range(4))
    stream = RandomStreams(0).stream("groups")
    drawn = {tuple(one.preferred([0, 1, 2, 3], stream)) for _ in range(30)}
    assert sorted(index for group in drawn for index in group) == [0, 1, 2, 3]
    assert len(drawn) >= 2
    assert one.preferred([3], stream) == [3]


def test_a_teacher_that_cannot_be_inverted_is_not_waited_for():
    one = _regularizer()
    memory = _met(one, range(3))
    assert one.preferred([0, 1, 2], RandomStreams(0).stream("groups")) == [0, 1, 2]  # the fourth is left out
    assert "dispersion" in one.step([_task(0), _task(1)], memory, Moment())
    assert 3 in one.preferred([0, 1, 2, 3], RandomStreams(0).stream("groups")), "without a group it goes with any"


def test_a_step_follows_cross_entropy_and_divergence():
    one = _regularizer(dispersion=0.0)
    memory = _met(one, range(4))
    one.optimizer = torch.optim.SGD(one.network.parameters(), lr=1.0)  # whose step is the gradient
    tasks, before = [_task(0), _task(1)], {n: p.detach().clone() for n, p in one.network.named_parameters()}
    one.streams.begin(5)
    shifted = []
    handle = one.learner.register_forward_pre_hook(lambda _, args: shifted.append(args[0].detach().clone()))
    terms = one.step(tasks, memory, Moment())
    handle.remove()
    after = {n: p.detach().clone() for n, p in one.network.named_parameters()}

    one.network.load_state_dict(before, strict=False)
    losses = []
    for task, images in zip(tasks, shifted, strict=True):
        logits = one.network(images)[:, :3]
        divergence = (task.soft_labels * (task.soft_labels.log() - logits.log_softmax(1))).sum(1).mean()
        losses.append(F.cross_entropy(logits, task.labels) + divergence)
    torch.stack(losses).mean().backward()
    assert terms["task_loss"] == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)
    for name, parameter in one.network.named_parameters():
        torch.testing.assert_close(before[name] - after[name], parameter.grad, atol=1e-5, rtol=1e-3)


def test_what_it_has_met_and_grouped_goes_through_a_checkpoint():
    one = _regularizer()
    memory = _met(one, range(2))
    other = _regularizer()
    other.load_tensors({name: value.clone() for name, value in one.tensors().items()})
    stream = RandomStreams(0).stream("groups")
    assert other.preferred([0, 1, 2, 3], stream) == [2, 3]
    for teacher in (2, 3):
        memory.add_task(_task(teacher))
        one.step([_task(teacher)], memory, Moment())
    third = _regularizer()
    third.load_tensors({name: value.clone() for name, value in one.tensors().items()})
    streams = [RandomStreams(1).stream("groups"), RandomStreams(1).stream("groups")]
    for _ in range(5):
        assert third.preferred([0, 1, 2, 3], streams[0]) == one.preferred([0, 1, 2, 3], streams[1])


def test_both_forms_of_the_step_move_the_learner_alike():
    moved = []
    for second_order in (False, True):
        one = _regularizer(second_order=second_order, dispersion=1e-3)
        memory = _met(one, range(4))
        one.streams.begin(5)
        one.step([_task(0), _task(1)], memory, Moment())
        moved.append(_weights(one))
    started = _weights(_regularizer())
    assert 0 < (moved[0] - moved[1]).norm() < 0.1 * (moved[0] - started).norm()
