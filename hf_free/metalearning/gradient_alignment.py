"""BELL's inner loop: sequential steps over the tasks of several teachers, which align their gradients implicitly.

With plain gradient steps of size a in random order, E[(theta - theta_n) / a] is the gradient of
sum_i L_i - (a / 2) sum_{i<j} g_i . g_j up to O(a^2) (Nichol et al. 2018, section 5.1, for Reptile; Shi et al. 2022,
Fish): moving toward theta_n descends the losses and ascends the inner products of the teachers' gradients, with no
second derivative. Adam steps, as FREE takes them, are the preconditioned analogue.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Loss = Callable[[nn.Module], Tensor]
"""A task's loss as a function of the network."""

MakeOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


def sequential_steps(
    network: nn.Module, losses: Sequence[Loss], make_optimizer: MakeOptimizer
) -> tuple[nn.Module, list[Tensor]]:
    """Clone the network and take one optimizer step per task, one after the other.

    Args:
        network: theta; left as it is, but for BatchNorm's running statistics, which the clone owns.
        losses: One per task; the caller chooses the order (random, for the identity above).
        make_optimizer: Makes the fresh optimizer of the clone.

    Returns:
        The clone at theta_n, and each task's loss on the way.
    """
    clone = copy.deepcopy(network)
    optimizer = make_optimizer([p for p in clone.parameters() if p.requires_grad])
    seen = []
    for loss_of in losses:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(clone)
        loss.backward()
        optimizer.step()
        seen.append(loss.detach())
    return clone, seen


@torch.no_grad()
def interpolate(network: nn.Module, moved: nn.Module, share: float) -> None:
    """theta <- theta + share (theta' - theta), the outer step of Reptile; buffers are taken over whole."""
    for parameter, other in zip(network.parameters(), moved.parameters(), strict=True):
        parameter.lerp_(other, share)
    for buffer, source in zip(network.buffers(), moved.buffers(), strict=True):
        buffer.copy_(source)


def pairwise_cosine(network: nn.Module, losses: Sequence[Loss]) -> Tensor:
    """Mean cosine between the tasks' gradients at theta, over all pairs: what the alignment raises.

    Measuring leaves no trace: the losses see a clone, whose BatchNorm statistics may move, and the random state comes
    back. A run that measures more often ends with the same weights.

    Raises:
        ValueError: fewer than two tasks.
    """
    if len(losses) < 2:
        raise ValueError(f"{len(losses)} task(s); gradients are compared between two or more")
    clone = copy.deepcopy(network)
    parameters = [p for p in clone.parameters() if p.requires_grad]
    rows = []
    device = parameters[0].device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        for loss_of in losses:
            gradients = torch.autograd.grad(loss_of(clone), parameters, allow_unused=True)
            pairs = zip(parameters, gradients, strict=True)
            rows.append(torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for p, g in pairs]))
    directions = nn.functional.normalize(torch.stack(rows), dim=1)
    cosines = directions @ directions.T
    count = len(losses)
    return (cosines.sum() - cosines.diagonal().sum()) / (count * (count - 1))
