"""Gradients of an update are cut down to a norm, all weights together."""

from __future__ import annotations

import pytest
import torch

from hf_free.errors import RunError
from hf_free.metalearning.clipping import clip_gradients


def _stepped(most, gradients):
    """How far plain gradient descent of rate 1 has moved two weights."""
    weights = [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(1))]
    optimizer = clip_gradients(torch.optim.SGD(weights, lr=1.0), most)
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = torch.tensor(gradient)
    optimizer.step()
    return torch.cat([-weight.detach() for weight in weights])


@pytest.mark.parametrize(("most", "factor"), [(None, 1.0), (14.0, 1.0), (1.3, 0.1), (6.5, 0.5)])
def test_a_gradient_of_norm_13_is_cut_down_and_keeps_its_direction(most, factor):
    moved = _stepped(most, [[3.0, 4.0], [12.0]])
    assert torch.allclose(moved, factor * torch.tensor([3.0, 4.0, 12.0]))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_one_that_is_not_finite_is_refused_before_anything_moves(value):
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = clip_gradients(torch.optim.SGD([weight], lr=1.0), 1.0)
    weight.grad = torch.tensor([0.5, value])
    with pytest.raises(RunError, match="norm of the learner's gradient is"):
        optimizer.step()
    assert torch.equal(weight, torch.ones(2))


def test_a_weight_without_a_gradient_is_passed_over():
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = clip_gradients(torch.optim.SGD(weights, lr=1.0), 1.0)
    weights[0].grad = torch.tensor([-2.0])
    optimizer.step()
    assert [weight.item() for weight in weights] == [1.0, 0.0]
