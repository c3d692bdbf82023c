"""Replay of cross-task episodes: classes of different teachers, mixed, learned by second-order MAML (Finn et al.)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from hf_free.data.class_matching import freest_first, some_apart
from hf_free.memory.bank import TaskMemory
from hf_free.runtime.random_streams import GLOBAL, Stream


def draw_classes(ids: Sequence[int], clash: Tensor, n_way: int, stream: Stream = GLOBAL) -> list[int]:
    """Draw n_way class ids at random, no two that clash (one class under two labels cannot be told apart).

    Args:
        ids: Class ids to draw from, C of them.
        clash: (C, C) bool, which of them must not meet (`hf_free.data.class_matching`).
        n_way: Number of classes.
        stream: Random numbers.

    Returns:
        The ids, or fewer than n_way where the clashes leave no more.
    """
    order = torch.randperm(len(ids), generator=stream.on("cpu")).tolist()
    chosen = some_apart(clash, order, n_way)
    if len(chosen) < n_way:  # as they happened to come; there may be a way all the same
        chosen = max(chosen, some_apart(clash, freest_first(clash, order), n_way), key=len)
    return [ids[place] for place in chosen]


def draw_episode(
    memory: TaskMemory,
    classes: dict[int, Tensor],
    chosen: Sequence[int],
    k_shot: int,
    n_query: int,
    stream: Stream = GLOBAL,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Support pictures, support labels, query pictures, query labels of one episode, in class order; uint8."""
    places = []
    for label in chosen:
        held = classes[label]
        places.append(held[torch.randperm(len(held), generator=stream.on("cpu"))[: k_shot + n_query]])
    table = torch.stack(places)  # (n_way, k_shot + n_query)
    labels = torch.arange(len(chosen), device=memory.device)
    support, query = table[:, :k_shot].flatten(), table[:, k_shot:].flatten()
    return (
        memory.images[support],
        labels.repeat_interleave(k_shot),
        memory.images[query],
        labels.repeat_interleave(n_query),
    )


@sdpa_kernel(SDPBackend.MATH)  # the fused attention of vision transformers has no second derivative
def maml_query_loss(
    network: nn.Module,
    support: Tensor,
    support_labels: Tensor,
    query: Tensor,
    query_labels: Tensor,
    *,
    steps: int,
    lr: float,
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Adapt by plain gradient steps on the support set, then evaluate on the query set; differentiable twice.

    Args:
        network: Pictures in [0, 1] -> logits (B, n_way).
        support: (S, C, H, W) in [0, 1].
        support_labels: (S,).
        query: (Q, C, H, W) in [0, 1].
        query_labels: (Q,).
        steps: Inner steps (FREE: 5).
        lr: Their rate (FREE: 0.01).

    Returns:
        Query cross-entropy, query accuracy, and the adapted weights.
    """
    weights: dict[str, Tensor] = dict(network.named_parameters())
    names = list(weights)
    for _ in range(steps):
        loss = F.cross_entropy(functional_call(network, weights, (support,)), support_labels)
        gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True, allow_unused=True)
        weights = {
            name: weights[name] if gradient is None else weights[name] - lr * gradient
            for name, gradient in zip(names, gradients, strict=True)
        }
    logits = functional_call(network, weights, (query,))
    accuracy = (logits.argmax(1) == query_labels).float().mean()
    return F.cross_entropy(logits, query_labels), accuracy, weights
