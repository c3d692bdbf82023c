"""Bi-level distillation against plain computation, and how tasks become support and query."""

from __future__ import annotations

import copy

import pytest
import torch
from pico import pico_teacher
from torch import nn

from hf_free.config.recipes import Defects
from hf_free.config.sections import BellConfig, LearnerConfig
from hf_free.inversion.task import Health, RecoveredTask, failed_task
from hf_free.learner.meta_learner import MetaLearner
from hf_free.metalearning.bilevel import BilevelDistiller, distilled_query_loss, pairs_of
from hf_free.runtime.device import Precision
from hf_free.runtime.random_streams import RandomStreams


def task(teacher: int, labels: list[int], *, classes: tuple[int, ...] = (0, 1), first: int = 0) -> RecoveredTask:
    count = len(labels)
    images = torch.arange(first, first + count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
    answers = torch.full((count, len(classes)), 1 / len(classes))
    return RecoveredTask(images, torch.tensor(labels), answers, classes, teacher, f"t{teacher}", Health(1.0, 0.0, 0.0))


def numbers(one: RecoveredTask) -> list[int]:
    return one.images[:, 0, 0, 0].tolist()


def test_two_tasks_of_a_teacher_are_support_and_query():
    pairs = pairs_of([task(3, [0, 1]), task(3, [0, 1], first=50)])
    assert [(numbers(support), numbers(query)) for support, query in pairs] == [([0, 1], [50, 51])]


def test_one_task_is_halved_class_by_class():
    ((support, query),) = pairs_of([task(0, [0, 1, 0, 1, 1, 0, 1])])
    assert sorted(numbers(support)) == [0, 1, 2, 3]
    assert support.labels.tolist() == [0, 1, 0, 1]
    assert sorted(numbers(query)) == [4, 5, 6]
    assert sorted(query.labels.tolist()) == [0, 1, 1]


def test_tasks_about_other_classes_are_no_pair():
    pairs = pairs_of([task(0, [0, 1, 0, 1]), task(0, [0, 1, 0, 1], classes=(5, 7), first=20)])
    assert [numbers(query) for _, query in pairs] == [[2, 3], [22, 23]]
    assert pairs_of([task(0, [0, 1])]) == []  # a half of one picture


@pytest.mark.parametrize("of_probabilities", [False, True])
def test_the_loss_is_that_of_plain_steps_and_its_gradient_goes_through_them(of_probabilities):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).double()
    support, query = torch.rand(4, 3, 2, 2, dtype=torch.double), torch.rand(6, 3, 2, 2, dtype=torch.double)
    said, wanted = torch.rand(4, 2).double().softmax(1), torch.rand(6, 2).double().softmax(1)

    def plain(weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        def divergence(pictures, answers):
            logits = (pictures.flatten(1) @ weight.T + bias)[:, :2]
            if of_probabilities:  # as the public code has it: no logarithm, and the mean over all numbers
                return (answers * (answers.log() - logits.softmax(1))).mean()
            return (answers * (answers.log() - logits.log_softmax(1))).sum(1).mean()

        for _ in range(3):
            steps = torch.autograd.grad(divergence(support, said), (weight, bias), create_graph=True)
            weight, bias = weight - 0.5 * steps[0], bias - 0.5 * steps[1]
        return divergence(query, wanted)

    loss = distilled_query_loss(
        network, support, said, query, wanted, steps=3, lr=0.5, of_probabilities=of_probabilities
    )
    weight, bias = (parameter.detach().clone().requires_grad_() for parameter in network.parameters())
    expected = plain(weight, bias)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    loss.backward()
    expected.backward()
    assert torch.allclose(network[1].weight.grad, weight.grad, atol=1e-6)
    assert torch.allclose(network[1].bias.grad, bias.grad, atol=1e-6)


def distiller(**values: object) -> BilevelDistiller:
    torch.manual_seed(0)
    learner = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16))
    config = BellConfig(objective="bilevel", n_way=3, distilled_steps=3, replay_inner_lr=0.5)
    return BilevelDistiller(learner, config, Precision(None), streams=RandomStreams(0), **values)


def recovered() -> RecoveredTask:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (8, 3, 16, 16), dtype=torch.uint8, generator=generator)
    answers = (4 * torch.randn(8, 2, generator=generator)).softmax(1)
    return RecoveredTask(images, torch.arange(8) % 2, answers, (0, 1), 0, "t", Health(1.0, 0.1, 0.1))


@pytest.mark.parametrize("is_released", [False, True])
def test_boundary_queries_are_sought_against_the_learner_adapted_to_the_support(is_released):
    one, task = distiller(defects=Defects(divergence_of_probabilities=is_released)), recovered()
    before = {name: value.clone() for name, value in one.network.state_dict().items()}
    answers = one.adapted(task)(task.images / 255, 0)
    for name, value in one.network.state_dict().items():
        assert torch.equal(value, before[name]), "neither weights nor statistics of the learner itself"
    by_hand = copy.deepcopy(one.network).train()
    for _ in range(3):
        logits = by_hand(task.images / 255)[:, :2]
        seen = logits.softmax(1) if is_released else logits.log_softmax(1)
        losses = task.soft_labels * (task.soft_labels.log() - seen)
        by_hand.zero_grad()
        (losses.mean() if is_released else losses.sum(1).mean()).backward()
        with torch.no_grad():
            for parameter in by_hand.parameters():
                parameter -= 0.5 * parameter.grad
    assert torch.allclose(answers, by_hand(task.images / 255), atol=1e-4)
    assert not torch.allclose(answers, one.student(task.images / 255, 0), atol=1e-2)
    assert not answers.requires_grad


def test_without_a_support_set_the_student_is_the_learner_as_it_is():
    one, pictures = distiller(), recovered().images / 255
    lost = failed_task(pico_teacher("conv4", size=16, num_classes=2), 0, "no answer")
    assert torch.equal(one.adapted(lost)(pictures, 0), one.student(pictures, 0))
