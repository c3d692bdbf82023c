"""BatchNorm statistics of a teacher as a prior on pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

EPS = 1e-5
"""Guards the division by a channel's variance, as BatchNorm's own default."""


@contextmanager
def collected_distances(layers: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Collect, for every forward pass inside the block, each BatchNorm layer's distance to its statistics.

    The hooks live only inside the block (DeepInversion's public code leaks them).

    Yields:
        A list that fills with one scalar a layer, in the order of the forward pass.
    """
    distances: list[Tensor] = []

    def measure(layer: Any, inputs: tuple[Tensor, ...]) -> None:
        distances.append(statistics_distance(inputs[0], layer.running_mean, layer.running_var))

    handles = [layer.register_forward_pre_hook(measure) for layer in layers]
    try:
        yield distances
    finally:
        for handle in handles:
            handle.remove()


def statistics_distance(activations: Tensor, running_mean: Tensor, running_var: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance between a batch's channels and the stored ones, in units of the stored variance.

    With mu, sigma of the batch and m, s stored: mean over channels of ((mu - m)^2 + (sigma - s)^2) / s^2.
    DeepInversion (Yin et al. 2020, eq. 4) takes norms of unscaled differences of means and variances; dividing by the
    stored variance makes layers and teachers comparable, so that one weight serves all.

    Args:
        activations: (B, C, ...) input of the layer; more than one value a channel.
        running_mean: (C,).
        running_var: (C,).
    """
    dims = [dim for dim in range(activations.ndim) if dim != 1]
    # fp32: the variance of half-precision activations loses too many digits
    variance, mean = torch.var_mean(activations.float(), dims, correction=0)
    stored = running_var.float() + EPS
    shift = (mean - running_mean.float()).square() / stored
    spread = ((variance + EPS).sqrt() / stored.sqrt() - 1).square()
    return (shift + spread).mean()
