"""Calibration of an adapted network by pictures recovered from itself, at test time (PURER's ICFIL).

PURER (Hu et al., CVPR 2023) learns from recovered pictures and is used on real ones. After the inner loop on a task's
real support set it inverts the adapted network, and makes it attend to what real and recovered pictures of a class
have in common, by a supervised contrastive loss (Khosla et al. 2020) on both together. Its public code
(Egg-Hu/PURER at commit 6d62ccd) has none of it: the flag `efil` of main.py changes the name of a log. Nor has
PURER-Plus (commit 0d4a0a9). So the constants here are ours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_free.learner.batchnorm import Adaptable
from hf_free.learner.full_precision import without_autocast
from hf_free.learner.heads import LinearClassifier, normalize_features, scores

RECOVERY_STEPS, RECOVERY_LR = 20, 0.05
"""Adam's steps on the pixels of the recovered pictures, in [0, 1], and their rate."""

CALIBRATION_LR = 0.01
"""Rate of the plain gradient steps on the network: that of MAML's inner loop."""

TEMPERATURE = 0.1
"""Of the contrastive loss (Khosla et al. 2020, section 4.1)."""


def calibrate(network: Adaptable, classifier: LinearClassifier, images: Tensor, labels: Tensor, *, steps: int) -> None:
    """Move an adapted network's weights by a few steps; its classifier stays. Always the same for the same set.

    Args:
        network: As `hf_free.learner.maml.fine_tune` gives it, in eval mode; its weights change.
        classifier: Its classifier, weight (1, N, D).
        images: Prepared support pictures (S, C, H, W) in [0, 1].
        labels: (S,), 0..N-1.
        steps: Gradient steps on the contrastive loss.
    """
    parameters = list(network.parameters())
    with without_autocast(images.device), torch.enable_grad():
        recovered = recover_like(network, classifier, images, labels)
        both, classes = torch.cat([images, recovered]), torch.cat([labels, labels])
        for parameter in parameters:
            parameter.requires_grad_(True)
        for _ in range(steps):
            features = network.prepare_features(network.features(both))
            loss = supervised_contrastive(features, classes)
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            with torch.no_grad():
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    if gradient is not None:
                        parameter.sub_(gradient, alpha=CALIBRATION_LR)
        for parameter in parameters:
            parameter.requires_grad_(False)


def recover_like(network: Adaptable, classifier: LinearClassifier, images: Tensor, labels: Tensor) -> Tensor:
    """Pictures that a network takes for a support set's classes, as many of each, from noise: (S, C, H, W) in [0, 1].

    Arguments as for `calibrate`.
    """
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(0))  # the same for the same set
    pixels = noise.to(images.device).requires_grad_()
    optimizer = torch.optim.Adam([pixels], lr=RECOVERY_LR)
    for _ in range(RECOVERY_STEPS):
        features = network.prepare_features(network.features(pixels))
        loss = F.cross_entropy(scores(classifier, features[None])[0], labels)
        (pixels.grad,) = torch.autograd.grad(loss, [pixels])
        optimizer.step()
        with torch.no_grad():
            pixels.clamp_(0, 1)
    return pixels.detach()


def supervised_contrastive(features: Tensor, labels: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Supervised contrastive loss (Khosla et al. 2020, eq. 2): pictures of a class close, others far.

    Args:
        features: (B, D), of any length.
        labels: (B,); every class twice or more.
        temperature: What cosines are divided by.
    """
    directions = normalize_features(features)
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    cosines = (directions @ directions.T / temperature).masked_fill(itself, -torch.inf)
    same = (labels[:, None] == labels[None, :]) & ~itself
    likely = cosines.log_softmax(1).masked_fill(~same, 0.0)
    return -(likely.sum(1) / same.sum(1)).mean()
