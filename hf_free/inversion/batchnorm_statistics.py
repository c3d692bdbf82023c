"""BatchNorm statistics of a teacher as a prior on pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

EPS = 1e-5
"""Added to a channel's variance before dividing by it; BatchNorm's own default."""

ROWS = 8192
"""Pixels at once where the variance is computed: as fp32 they stay in a CPU's cache."""


FIRST_ROWS = 64
"""Pixels whose mean is near enough to that of all: what is left of it takes no digits of the variance."""

Distance = Callable[[Tensor, Tensor, Tensor], Tensor]
"""How far activations are from a layer's running mean and variance."""


@contextmanager
def collected_distances(layers: Sequence[nn.Module], distance: Distance | None = None) -> Iterator[list[Tensor]]:
    """Collect, for every forward pass inside the block, each BatchNorm layer's distance to its statistics.

    The hooks live only inside the block (DeepInversion's public code leaks them).

    Args:
        layers: The layers.
        distance: How it is measured; None takes `statistics_distance`.

    Yields:
        A list that fills with one scalar per layer, in the order of the forward pass.
    """
    distances: list[Tensor] = []
    of = distance or statistics_distance

    def measure(layer: Any, inputs: tuple[Tensor, ...]) -> None:
        distances.append(of(inputs[0], layer.running_mean, layer.running_var))

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
        activations: (B, C, ...) input of the layer; more than one value per channel.
        running_mean: (C,).
        running_var: (C,).
    """
    mean, variance = _Moments.apply(activations)
    stored = running_var.float() + EPS
    shift = (mean - running_mean.float()).square() / stored
    spread = ((variance + EPS).sqrt() / stored.sqrt() - 1).square()
    return (shift + spread).mean()


def statistics_norms(activations: Tensor, running_mean: Tensor, running_var: Tensor) -> Tensor:
    """Norm of the difference of means plus norm of that of variances (DeepInversion's and PURER's public code).

    Neither is in units of the stored variance, so that a layer of large activations counts more. Arguments as for
    `statistics_distance`.
    """
    mean, variance = _Moments.apply(activations)
    return (mean - running_mean.float()).norm() + (variance - running_var.float()).norm()


class _Moments(torch.autograd.Function):
    """Mean and variance of each channel of (B, C, ...) activations, in fp32.

    `torch.var_mean` over the channels-last layout does not use a CPU's vectors: 35 ms for 100 maps of 32x32x32, where
    this takes 1 ms; and its gradient takes several passes over the maps where one is enough.
    """

    @staticmethod
    def forward(ctx: Any, activations: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, ...) -> mean (C,), variance (C,)."""
        rows = activations.movedim(1, -1).flatten(0, -2)  # a view where channels come last
        # one pass: sums of differences to a mean of few rows, in fp32, where half precision loses too many digits
        near = rows[:FIRST_ROWS].mean(0, dtype=torch.float32)
        parts = rows.split(ROWS) if rows.device.type == "cpu" else [rows]
        sums = [(part.sum(0), part.square_().sum(0)) for part in (part - near for part in parts)]
        shift, squares = (torch.stack(found).sum(0) / len(rows) for found in zip(*sums, strict=True))
        mean = near + shift
        ctx.save_for_backward(activations, mean)
        return mean, (squares - shift.square()).clamp_min(0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """d mean / dx = 1 / n, d variance / dx = 2 (x - mean) / n: together one multiply-add per value."""
        activations, mean = ctx.saved_tensors
        of_mean, of_variance = gradients
        count = activations.numel() // len(mean)
        scale = 2 * of_variance / count
        shift = of_mean / count - scale * mean
        shape = (1, -1) + (1,) * (activations.ndim - 2)
        dtype = activations.dtype
        return torch.addcmul(shift.view(shape).to(dtype), activations, scale.view(shape).to(dtype))
