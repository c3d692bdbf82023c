"""From a network and a support set to a linear classifier, bit for bit the same for the same set."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor

from hf_free.errors import BrokenLearnerError
from hf_free.learner.batchnorm import with_support_statistics
from hf_free.learner.calibration import calibrate
from hf_free.learner.embedder import Embedder
from hf_free.learner.heads import get_head
from hf_free.learner.maml import fine_tune
from hf_free.learner.support import SupportSet


class Adaptation(NamedTuple):
    """What adapting gives."""

    network: Embedder
    """The network that was given, or a copy that adaptation changed."""
    weight: Tensor
    """(N, D) of the linear layer."""
    bias: Tensor
    """(N,) of it."""
    features: Tensor
    """(S, D), prepared, of the support set in its order."""


def needs_pictures(network: Embedder) -> bool:
    """Whether a support picture's features depend on the other pictures, so that pictures have to be kept to adapt
    anew. They do with MAML, which changes the network, and with BatchNorm statistics of the support or of the batch.
    """
    return network.config.head == "maml" or network.batchnorm != "running"


def support_rows(network: Embedder, images: Tensor) -> Tensor:
    """What a support set keeps of prepared pictures (B, C, H, W): themselves, or their features (B, D).

    Each picture is embedded alone: a convolution's last bits depend on how many pictures it is given at once.
    """
    if needs_pictures(network):
        return images
    return torch.cat([network.embed(image[None]) for image in images]).cpu()


def check_features(features: Tensor) -> None:
    """Refuse features that nothing can be told from; finite weights may give them, such as variances below 0.

    Raises:
        BrokenLearnerError: one is NaN or infinite.
    """
    if not torch.isfinite(features).all():
        raise BrokenLearnerError(
            "the learner's features of these pictures are NaN or infinite",
            allowed="finite features",
            action="use another learner: the weights of this one are damaged, or its training diverged",
        )


def fit(network: Embedder, support: SupportSet) -> Adaptation:
    """Adapt to a support set. Within a caller's autocast block, all but the embedding of pictures stays in fp32.

    Args:
        network: The learner; it stays as it is.
        support: What `support_rows` of this network gave.

    Raises:
        BrokenLearnerError: features that are NaN or infinite.
    """
    labels, rows = support.labels.to(network.device), support.rows.to(network.device)
    n_way = len(support.classes)
    if network.batchnorm == "support":
        network = with_support_statistics(network, rows)
    if network.config.head == "maml":
        network, classifier = fine_tune(network, rows, labels, n_way)
        if network.config.calibration_steps:
            calibrate(network, classifier, rows, labels, steps=network.config.calibration_steps)
        features = network.embed(rows)
    else:
        features = network.embed(rows) if support.holds_pictures else rows
        check_features(features)
        head = get_head(network.config.head)
        classifier = network.embedding.fit_head(head, features[None], labels[None], n_way)
    return Adaptation(network, classifier.weight[0], classifier.bias[0], features)


def as_before(network: Embedder, batchnorm: str) -> Embedder | None:
    """The network to adapt anew from, given one that adaptation left; None where its weights were changed.

    Args:
        network: What `fit` gave.
        batchnorm: Which statistics BatchNorm used before. Those of the support replace whatever was there, so that
            the old ones are not needed.
    """
    if network.config.head == "maml":
        return None
    if batchnorm == network.batchnorm:
        return network
    start = copy.deepcopy(network)
    start.batchnorm = "support"
    return start
