"""Bi-level distillation against plain computation, and how tasks become support and query."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hf_free.inversion.task import Health, RecoveredTask
from hf_free.metalearning.bilevel import distilled_query_loss, pairs_of


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


def test_the_loss_is_that_of_plain_steps_and_its_gradient_goes_through_them():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).double()
    support, query = torch.rand(4, 3, 2, 2, dtype=torch.double), torch.rand(6, 3, 2, 2, dtype=torch.double)
    said, wanted = torch.rand(4, 2).double().softmax(1), torch.rand(6, 2).double().softmax(1)

    def plain(weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        def divergence(pictures, answers):
            logits = (pictures.flatten(1) @ weight.T + bias)[:, :2]
            return (answers * (answers.log() - logits.log_softmax(1))).sum(1).mean()

        for _ in range(3):
            steps = torch.autograd.grad(divergence(support, said), (weight, bias), create_graph=True)
            weight, bias = weight - 0.5 * steps[0], bias - 0.5 * steps[1]
        return divergence(query, wanted)

    loss = distilled_query_loss(network, support, said, query, wanted, steps=3, lr=0.5)
    weight, bias = (parameter.detach().clone().requires_grad_() for parameter in network.parameters())
    expected = plain(weight, bias)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    loss.backward()
    expected.backward()
    assert torch.allclose(network[1].weight.grad, weight.grad, atol=1e-6)
    assert torch.allclose(network[1].bias.grad, bias.grad, atol=1e-6)
