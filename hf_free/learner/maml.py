"""Adapting the whole network by gradient steps on the support set."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_free.learner.batchnorm import Adaptable, Network, batch_statistics
from hf_free.learner.full_precision import without_autocast
from hf_free.learner.heads import LinearClassifier, fit_nearest_mean, scores

MAML_STEPS, MAML_LR = 5, 0.01
"""Inner SGD steps and rate, as in FREE's replay (MAML, Finn et al. 2017)."""


def fine_tune(
    network: Network, images: Tensor, labels: Tensor, n_way: int, steps: int = MAML_STEPS, lr: float = MAML_LR
) -> tuple[Network, LinearClassifier]:
    """Adapt a copy of the whole network by plain SGD on the support set (MAML's inner loop).

    Args:
        network: Stays as it is.
        images: Prepared support pictures (S, C, H, W) in [0, 1].
        labels: (S,), 0..n_way-1.
        n_way: Number of classes.
        steps: Gradient steps.
        lr: Their rate.

    Returns:
        The adapted copy and its classifier, weight (1, N, D).
    """
    adapted = copy.deepcopy(network).eval()
    return adapted, descend(adapted, images, labels[None], n_way, steps, lr)


def descend(
    network: Adaptable,
    images: Tensor,
    labels: Tensor,
    n_way: int,
    steps: int = MAML_STEPS,
    lr: float = MAML_LR,
) -> LinearClassifier:
    """`fine_tune` the network itself, or each of its E copies on an episode of its own.

    The head starts at the nearest class means (Proto-MAML, Triantafillou et al. 2020), so that any trained backbone
    can serve. BatchNorm keeps its statistics; a transductive network's takes those of the support pictures, anew in
    every step, as FREE published it. It runs outside a caller's autocast block, which would not see each step's new
    weights.

    Args:
        network: In eval mode; its weights change.
        images: Prepared support pictures, as its `features` takes them.
        labels: (E, S), 0..n_way-1.
        n_way: Number of classes.
        steps: Gradient steps.
        lr: Their rate.

    Returns:
        The classifiers, weight (E, N, D).
    """

    def support_features() -> Tensor:
        return network.prepare_features(network.features(images)).reshape(*labels.shape, -1)

    statistics = batch_statistics(network.backbone) if network.batchnorm == "transductive" else nullcontext()
    with without_autocast(images.device), statistics:
        with torch.no_grad():
            weight, bias = fit_nearest_mean(support_features(), labels, n_way)
        parameters = [weight, bias, *network.parameters()]
        for parameter in parameters:
            parameter.requires_grad_(True)
        with torch.enable_grad():
            for _ in range(steps):
                logits = scores(LinearClassifier(weight, bias), support_features())  # (E, S, N)
                losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / labels.shape[1]
                gradients = torch.autograd.grad(losses, parameters, allow_unused=True)  # each copy's is its own
                with torch.no_grad():
                    for parameter, gradient in zip(parameters, gradients, strict=True):
                        if gradient is not None:
                            parameter -= lr * gradient
    for parameter in parameters:
        parameter.requires_grad_(False)
    return LinearClassifier(weight, bias)
