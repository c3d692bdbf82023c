"""TGR's step: what it descends, to second order in lambda, on losses whose Hessians change from place to place."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call

from hf_free.metalearning.dispersion import regularized_step


@pytest.fixture
def problem():
    """Four losses of one point, quadratics with sines, in fp64."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    made = [(draw(5, 5), draw(5), draw(5)) for _ in range(4)]
    losses = [lambda w, r=r, b=b, s=s: (r @ w["x"]).square().sum() / 5 - b @ w["x"] + (s * w["x"]).sin().sum()
              for r, b, s in made]  # fmt: skip
    return {"x": draw(5)}, losses


def plain(weights, losses, strength, factor):
    """The gradient of mean L + factor * strength / (2n) sum |g_i - gbar|^2 by autograd, and D."""
    x = weights["x"].clone().requires_grad_()
    values = [loss({"x": x}) for loss in losses]
    gradients = torch.stack([torch.autograd.grad(value, x, create_graph=True)[0] for value in values])
    dispersion = (gradients - gradients.mean(0)).square().sum() / (2 * len(losses))
    (found,) = torch.autograd.grad(torch.stack(values).mean() + factor * strength * dispersion, x)
    return found, dispersion.detach()


def as_released(weights, losses, strength):
    """TGR's code: the gradient runs through the displacement as well."""
    x = weights["x"].clone().requires_grad_()
    own = [torch.autograd.grad(loss({"x": x}), x, create_graph=True)[0] for loss in losses]
    mean = torch.stack(own).mean(0)
    moved = [loss({"x": x - strength * (mean - one)}) for loss, one in zip(losses, own, strict=True)]
    return torch.autograd.grad(torch.stack(moved).mean(), x)[0]


def test_second_order_is_the_released_step_exactly(problem):
    weights, losses = problem
    # its Hessians are taken at theta, as the displacement's are: exact up to rounding
    found = regularized_step(weights, losses, 0.05, second_order=True).gradient["x"]
    torch.testing.assert_close(found, as_released(weights, losses, 0.05), atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("second_order", [True, False])
def test_both_forms_descend_twice_lambda_times_the_dispersion(problem, second_order):
    weights, losses = problem
    errors = []
    for strength in (1e-3, 1e-4):
        step = regularized_step(weights, losses, strength, second_order=second_order)
        expected, dispersion = plain(weights, losses, strength, 2)
        torch.testing.assert_close(step.dispersion, dispersion)
        errors.append((step.gradient["x"] - expected).norm().item())
        halved, _ = plain(weights, losses, strength, 1)
        assert errors[-1] < (step.gradient["x"] - halved).norm() / 10, "once lambda is what it is not"
    assert errors[1] < errors[0] / 50, "what is left falls with the square of lambda"


def test_without_a_penalty_it_is_the_mean_gradient(problem):
    weights, losses = problem
    step = regularized_step(weights, losses, 0.0)
    torch.testing.assert_close(step.gradient["x"], plain(weights, losses, 0.0, 0)[0])
    torch.testing.assert_close(step.losses, torch.stack([loss(weights) for loss in losses]))


def test_one_teacher_alone_has_no_dispersion(problem):
    weights, losses = problem
    step = regularized_step(weights, losses[:1], 0.1, second_order=True)
    torch.testing.assert_close(step.gradient["x"], plain(weights, losses[:1], 0.0, 0)[0])
    assert step.dispersion == 0


def test_a_weight_that_no_loss_depends_on_has_gradient_zero():
    torch.manual_seed(0)
    network = nn.ModuleDict({"used": nn.Linear(3, 2), "idle": nn.Linear(3, 2)})
    inputs = torch.randn(2, 4, 3)
    network.forward = lambda x: network["used"](x).square().mean()  # type: ignore[method-assign]
    losses = [lambda w, x=x: functional_call(network, w, (x,)) for x in inputs]
    for second_order in (False, True):
        step = regularized_step(dict(network.named_parameters()), losses, 0.1, second_order=second_order)
        assert set(step.gradient) == dict(network.named_parameters()).keys()
        assert not step.gradient["idle.weight"].any()
        assert step.gradient["used.weight"].any()


def test_through_relus_the_released_step_is_still_exact_and_the_fixed_form_is_another():
    """Gradients jump where a unit switches between theta and theta_i: a first-order step sees that, a Hessian not."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, 3)).double()
    batches = [(torch.randn(20, 6).double(), torch.randint(3, (20,))) for _ in range(3)]
    losses = [
        lambda w, x=x, y=y: nn.functional.cross_entropy(functional_call(network, w, (x,)), y) for x, y in batches
    ]
    weights = {name: value.detach() for name, value in network.named_parameters()}
    leaves = {name: value.clone().requires_grad_() for name, value in weights.items()}
    own = [torch.autograd.grad(loss(leaves), list(leaves.values()), create_graph=True) for loss in losses]
    mean = [torch.stack(rows).mean(0) for rows in zip(*own, strict=True)]
    moved = []
    for loss, one in zip(losses, own, strict=True):
        rows = zip(leaves.items(), mean, one, strict=True)
        moved.append(loss({name: value - 0.05 * (m - g) for (name, value), m, g in rows}))
    released = torch.autograd.grad(torch.stack(moved).mean(), list(leaves.values()))
    second = regularized_step(weights, losses, 0.05, second_order=True).gradient
    first = regularized_step(weights, losses, 0.05).gradient
    for (name, found), expected in zip(second.items(), released, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-9)
        assert not torch.allclose(first[name], expected, atol=1e-6)
