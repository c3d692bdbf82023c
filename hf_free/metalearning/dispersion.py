"""TGR's step: the teachers' mean loss, and the dispersion of their gradients as a penalty.

Task Groupings Regularization (ICML 2024) evaluates each teacher's loss at theta_i = theta - lambda (gbar - g_i), where
g_i is its gradient at theta and gbar their mean. With the dispersion D = 1 / (2n) sum_i |g_i - gbar|^2:

- The mean of the gradients at theta_i, the displacement held fixed, is grad[mean L + lambda D] up to lambda^2.
- The released code leaves the displacement in the graph, so that the gradient runs through it as well and is
  grad[mean L + 2 lambda D] up to lambda^2. That takes second derivatives.
- So the first form with lambda doubled is the second up to lambda^2, with first derivatives alone, where the losses
  are smooth. ReLUs and max-pooling are not: their gradient jumps on the way from theta to theta_i, which the first
  form sees and a Hessian does not (docs/experiments/peers.md).

Let u_i be the gradient at theta_i, U their mean, H_i the Hessian at theta. The second form is U - lambda / n sum_i
H_i (U - u_i), which takes one Hessian-vector product per teacher, with one graph alive at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

Loss = Callable[[dict[str, Tensor]], Tensor]
"""A teacher's loss, a scalar, as a function of the learner's weights by name; the same for the same weights."""


class Step(NamedTuple):
    """Result of a step."""

    gradient: dict[str, Tensor]
    """The gradient, by the weights' names."""
    losses: Tensor
    """Each teacher's loss at theta, (n,)."""
    dispersion: Tensor
    """D at theta, a scalar."""


@sdpa_kernel(SDPBackend.MATH)  # the fused attention of vision transformers has no second derivative
def regularized_step(
    weights: Mapping[str, Tensor], losses: Sequence[Loss], strength: float, *, second_order: bool = False
) -> Step:
    """TGR's gradient of several teachers' losses.

    Args:
        weights: theta, by name.
        losses: One per teacher.
        strength: lambda as released; 0 is the plain mean of the gradients.
        second_order: Whether it is the released form; else that with lambda doubled and the displacement fixed.
    """
    leaves = {name: value.detach().requires_grad_() for name, value in weights.items()}
    found = [_gradient(one, leaves) for one in losses]
    own, seen = [gradient for gradient, _ in found], torch.stack([loss for _, loss in found])
    mean = _mean(own)
    distances = [sum((g - m).square().sum() for g, m in zip(one, mean, strict=True)) for one in own]
    dispersion = torch.stack([torch.as_tensor(distance) for distance in distances]).mean() / 2
    names = list(leaves)
    if not strength:
        return Step(dict(zip(names, mean, strict=True)), seen, dispersion)
    reach = strength if second_order else 2 * strength
    moved = [_gradient(loss, _displaced(leaves, mean, one, reach))[0] for loss, one in zip(losses, own, strict=True)]
    total = _mean(moved)
    if second_order:
        through = []
        for loss, one in zip(losses, moved, strict=True):
            toward = [t - u for t, u in zip(total, one, strict=True)]
            through.append(_hessian_times(loss, leaves, toward))
        total = [t - strength * h for t, h in zip(total, _mean(through), strict=True)]
    return Step(dict(zip(names, total, strict=True)), seen, dispersion)


def _gradient(loss: Loss, weights: dict[str, Tensor]) -> tuple[list[Tensor], Tensor]:
    """Gradient and value; a weight that the loss does not depend on has the gradient zero."""
    value = loss(weights)
    found = torch.autograd.grad(value, list(weights.values()), allow_unused=True)
    return _zeros_for_none(found, weights), value.detach()


def _hessian_times(loss: Loss, weights: dict[str, Tensor], vector: Sequence[Tensor]) -> list[Tensor]:
    """The Hessian's product with a vector (Pearlmutter 1994): the gradient of the gradient's product with it."""
    leaves = list(weights.values())
    found = torch.autograd.grad(loss(weights), leaves, create_graph=True, allow_unused=True)
    terms = [(g * v).sum() for g, v in zip(found, vector, strict=True) if g is not None and g.requires_grad]
    if not terms:
        return [torch.zeros_like(leaf) for leaf in leaves]
    return _zeros_for_none(torch.autograd.grad(torch.stack(terms).sum(), leaves, allow_unused=True), weights)


def _displaced(
    weights: dict[str, Tensor], mean: Sequence[Tensor], own: Sequence[Tensor], reach: float
) -> dict[str, Tensor]:
    rows = zip(weights.items(), mean, own, strict=True)
    return {name: (value.detach() - reach * (m - g)).requires_grad_() for (name, value), m, g in rows}


def _mean(rows: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    return [torch.stack(values).mean(0) for values in zip(*rows, strict=True)]


def _zeros_for_none(gradients: Sequence[Tensor | None], weights: dict[str, Tensor]) -> list[Tensor]:
    pairs = zip(gradients, weights.values(), strict=True)
    return [torch.zeros_like(weight) if gradient is None else gradient for gradient, weight in pairs]
