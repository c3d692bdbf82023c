"""Groups of unlike teachers, as TGR forms them: by what a probe network learns from their recovered pictures.

TGR (ICML 2024) embeds a teacher as the diagonal of the Fisher information of a ResNet-34 trained on ImageNet, on the
pictures recovered from that teacher; two teachers are as similar as these diagonals are, and spectral clustering of
their dissimilarity puts unlike ones together. A probe trained on real pictures is not data-free. Here it is a small
network that learns from the recovered pictures themselves which of all teachers' classes each was made for; of its
Fisher information only the layers before the classifier count, whose outputs mean something to every teacher.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hf_free.backbones.conv4 import Conv4

PROBE_WIDTH, PROBE_SIZE = 32, 32
"""Channels of the probe, a Conv-4, and the height and width in which it sees all pictures."""

PROBE_UPDATES, PROBE_BATCH, PROBE_LR = 60, 128, 3e-3
"""The probe's training by Adam: it only has to tell apart pictures that a network has made, and need not be good at
it."""

BATCHES, BATCH = 5, 60
"""Number of batches and pictures per batch for a teacher's embedding: TGR takes 5 of 600."""

ROUNDING = 1e-6
"""Differences up to this are those of 32 bits: teachers that are alike are told apart by none."""

RESTARTS = 30
"""Starts of k-means in the clustering (TGR)."""


def train_probe(
    images: Tensor,
    labels: Tensor,
    *,
    device: torch.device,
    generator: torch.Generator,
    updates: int | None = None,
    pause: Callable[[], None] = lambda: None,
) -> nn.Module:
    """Train a small network to tell all teachers' classes apart.

    Args:
        images: (N, C, H, W) uint8.
        labels: (N,), 0 and up.
        device: Where it computes.
        generator: Random numbers for initial weights and batches, on the CPU.
        updates: Updates of Adam; None takes `PROBE_UPDATES`.
        pause: Called before each.
    """
    classes = int(labels.max()) + 1
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        probe = Conv4(PROBE_WIDTH, num_classes=classes, in_chans=images.shape[1], img_size=PROBE_SIZE).to(device)
    optimizer = torch.optim.Adam(probe.parameters(), lr=PROBE_LR)
    for _ in range(PROBE_UPDATES if updates is None else updates):
        pause()
        chosen = torch.randint(len(images), (min(PROBE_BATCH, len(images)),), generator=generator)
        loss = F.cross_entropy(probe(_shown(images[chosen], device)), labels[chosen].to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return probe.eval()


def embed_teacher(probe: nn.Module, images: Tensor, labels: Tensor, *, batch: int = BATCH) -> list[Tensor]:
    """A teacher's embedding: the mean over batches of the probe's squared gradient, one vector per tensor.

    TGR squares the gradient of a batch's mean, and so does this. Its probe stays in training mode, so that the
    statistics of one teacher reach the next; this one is in evaluation mode.

    Args:
        probe: As `train_probe` gives it.
        images: (N, C, H, W) uint8, recovered from the teacher, in random order.
        labels: (N,), as the probe was trained.
        batch: Pictures of a batch.
    """
    head = {id(parameter) for parameter in probe.get_classifier().parameters()}  # type: ignore[operator]
    weights = [parameter for parameter in probe.parameters() if id(parameter) not in head]
    device, parts = weights[0].device, list(zip(images.split(batch), labels.split(batch), strict=True))[:BATCHES]
    total = [torch.zeros_like(weight) for weight in weights]
    for shown, wanted in parts:
        loss = F.cross_entropy(probe(_shown(shown, device)), wanted.to(device))
        gradients = torch.autograd.grad(loss, weights)
        torch._foreach_add_(total, [gradient.square() / len(parts) for gradient in gradients])
    return [tensor.flatten() for tensor in total]


def similarity(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """How alike two embeddings are, 0 to 1: mean over tensors of the cosine of e0 / (e0 + e1) and e1 / (e0 + e1).

    The symmetric distance of Task2Vec (Achille et al. 2019), layer by layer as TGR takes it.
    """
    cosines = []
    for first, second in zip(one, other, strict=True):
        both = (first + second).clamp_min(torch.finfo(first.dtype).tiny)
        cosines.append(F.cosine_similarity(first / both, second / both, dim=0))
    return torch.stack(cosines).mean().item()


def unlike_groups(embeddings: Sequence[Sequence[Tensor]], count: int, *, seed: int) -> list[int]:
    """The group, 0 and up, of each teacher: spectral clustering with 1 - similarity as affinity.

    Args:
        embeddings: One per teacher.
        count: Groups that are wanted; fewer where there are fewer teachers.
        seed: Seed of k-means.
    """
    number = len(embeddings)
    if count <= 1 or number <= count:
        return [place % count for place in range(number)]
    affinity = torch.zeros(number, number)
    for first in range(number):
        for second in range(first):
            unlike = 1 - similarity(embeddings[first], embeddings[second])
            affinity[first, second] = affinity[second, first] = unlike if unlike > ROUNDING else 0.0
    if not affinity.any():  # all alike: any grouping will do
        return [place % count for place in range(number)]
    from sklearn.cluster import SpectralClustering  # slow to import

    clustering = SpectralClustering(count, affinity="precomputed", n_init=RESTARTS, random_state=seed)
    return clustering.fit_predict(affinity.double().numpy()).tolist()


def _shown(images: Tensor, device: torch.device) -> Tensor:
    """Bytes (B, C, H, W) as the probe sees them."""
    seen = images.to(device).float() / 255
    if seen.shape[-1] == PROBE_SIZE:
        return seen
    return F.interpolate(seen, size=PROBE_SIZE, mode="bilinear", antialias=True)
