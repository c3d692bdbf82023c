"""Whose statistics BatchNorm uses."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hf_free.learner.full_precision import without_autocast

BatchNormMode = Literal["running", "support", "transductive"]
"""Statistics that a trained BatchNorm uses: the running ones; those of an episode's support pictures (also inductive);
those of whatever batch is predicted together (as FREE published it; transductive)."""


class Adaptable(Protocol):
    """What adaptation needs of a network: an embedder, or copies of one side by side."""

    backbone: nn.Module
    batchnorm: BatchNormMode

    def features(self, images: Tensor) -> Tensor:
        """Embed pictures; differentiable."""

    def prepare_features(self, features: Tensor) -> Tensor:
        """Features as heads expect them."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """All weights."""

    def eval(self) -> Self:
        """Put it into eval mode."""


Network = TypeVar("Network", bound=Adaptable)


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put a module in eval mode without gradients for a while; every submodule's own mode comes back."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training


def batchnorm_layers(module: nn.Module) -> list[_BatchNorm]:
    """The BatchNorm layers, timm's variants with a built-in activation among them."""
    return [part for part in module.modules() if isinstance(part, _BatchNorm)]


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Answers given in this block pass gradients on to the pictures only, not to the weights."""
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)


@contextmanager
def batch_statistics(module: nn.Module) -> Iterator[None]:
    """Let BatchNorm normalize with the statistics of the batch, for a while, and leave its running ones untouched."""
    kept = [(layer, layer.training, layer.track_running_stats) for layer in batchnorm_layers(module)]
    for layer, _, _ in kept:
        layer.training, layer.track_running_stats = True, False
    try:
        yield
    finally:
        for layer, training, tracks in kept:
            layer.training, layer.track_running_stats = training, tracks


@contextmanager
def answering(network: nn.Module, learner: nn.Module) -> Iterator[None]:
    """A network in training answers in this block about pictures that are not finished: they leave no trace in its
    BatchNorm, and gradients go to them only.

    Args:
        network: The learner, with the head that it learns with.
        learner: Whose BatchNorm it is.
    """
    network.train()
    with batch_statistics(learner), frozen(network):
        yield


def draws_in_training(network: nn.Module) -> bool:
    """Whether a network in training draws random numbers: dropout, of units or of whole blocks (timm's names)."""

    def rate(part: nn.Module) -> float:
        own = part.p if isinstance(part, nn.modules.dropout._DropoutNd) else 0.0
        return max(own, *(getattr(part, name, 0.0) or 0.0 for name in ("drop_rate", "drop_prob")))

    return any(rate(part) > 0 for part in network.modules())


def with_support_statistics(network: Network, images: Tensor) -> Network:
    """Copy a network and set the copy's BatchNorm statistics to those of the support pictures alone.

    Args:
        network: Stays as it is.
        images: Prepared support pictures (S, C, H, W) in [0, 1], S >= 2.
    """
    adapted = copy.deepcopy(network)
    adapted.batchnorm = "running"  # the copy's running statistics are the support's from here on
    take_statistics(adapted, images)
    return adapted


def take_statistics(network: Adaptable, images: Tensor) -> None:
    """Set a network's BatchNorm statistics to those of the support pictures alone; queries never enter: inductive.

    Layer by layer, each one's input already normalized by the layers before it.
    """
    with evaluation_mode(network.backbone), without_autocast(images.device):
        for layer in batchnorm_layers(network.backbone):
            layer.training, layer.momentum = True, 1.0
        network.features(images)
