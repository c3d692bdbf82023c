"""The factor on an fp16 loss: small gradients survive, large ones leave an update out, and both move the factor."""

from __future__ import annotations

import pytest
import torch

from hf_free.errors import RunError
from hf_free.runtime import loss_scale
from hf_free.runtime.loss_scale import FIRST, LEAST, LossScale


def _parameter(*gradient):
    parameter = torch.nn.Parameter(torch.zeros(len(gradient)))
    parameter.grad = torch.tensor(gradient)
    return parameter


def test_gradients_are_divided_by_the_factor():
    scale, parameter = LossScale(), _parameter(FIRST, -2 * FIRST)
    assert scale.unscale([parameter, torch.nn.Parameter(torch.zeros(1))])
    assert parameter.grad.tolist() == [1.0, -2.0]
    assert scale.factor == FIRST


def test_a_gradient_too_small_for_fp16_survives():
    """A product of two small numbers, whose gradient passes through fp16."""
    found = []
    for factor in (1.0, LossScale().factor):
        weight = torch.nn.Parameter(torch.full((1, 1), 0.5))
        with torch.autocast("cpu", torch.float16):
            answer = torch.nn.functional.linear(torch.full((1, 1), 1e-3), weight)
        (factor * 1e-5 * answer.float()).sum().backward()
        found.append(weight.grad.item() / factor)
    assert found[0] == 0
    assert found[1] == pytest.approx(1e-8, rel=1e-2)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_what_is_not_finite_halves_the_factor_and_says_so(value):
    scale = LossScale()
    assert not scale.unscale([_parameter(1.0), _parameter(value)])
    assert scale.factor == FIRST / 2


def test_many_finite_ones_double_it(monkeypatch):
    monkeypatch.setattr(loss_scale, "PATIENCE", 3)
    scale = LossScale()
    factors = []
    for gradient in (1.0, 1.0, float("inf"), 1.0, 1.0, 1.0, 1.0):
        scale.unscale([_parameter(gradient)])
        factors.append(scale.factor / FIRST)
    assert factors == [1, 1, 0.5, 0.5, 0.5, 1, 1]


def test_gradients_that_are_never_finite_end_the_run():
    scale = LossScale()
    scale.factor = LEAST
    with pytest.raises(RunError, match="not finite in fp16"):
        scale.unscale([_parameter(float("nan"))])


def test_it_goes_on_where_it_was():
    scale, other = LossScale(), LossScale()
    scale.unscale([_parameter(float("inf"))])
    scale.unscale([_parameter(1.0)])
    other.load(scale.state())
    assert (other.factor, other.since) == (FIRST / 2, 1)
