"""One copy of an embedder for each of several episodes, side by side in the channels of one network.

Where adaptation changes the network itself (MAML, BatchNorm statistics of the support) every episode needs its own.
A convolution over E times the channels in E times the groups computes E of them in one call, for weights that differ;
everything else that keeps channels apart needs no change. For small networks and pictures on a CPU it takes half to
five sixths of the time of one episode after the other, and less than `torch.func.vmap` (docs/experiments).
"""

from __future__ import annotations

import copy
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from hf_free.learner.batchnorm import batch_statistics, evaluation_mode, take_statistics
from hf_free.learner.embedder import Embedder
from hf_free.learner.heads import get_head, scores
from hf_free.learner.maml import descend

EPISODES_AT_ONCE = 4
"""Most copies side by side; more are no faster (docs/experiments)."""

STACKED_WEIGHTS = 2**22
"""Most weights of all copies together (16 MiB in fp32)."""

STACKED_VALUES = 2**21
"""Most numbers in all pictures together: 680 pictures of 32x32 in color. At 84 pixels copies side by side were
slower."""

PROBE_TOLERANCE = 1e-4
"""Greatest relative difference of answers that may come from another order of summation (1e-6 measured)."""


def side_by_side(embedder: Embedder, episodes: int) -> Embedder:
    """E copies of an embedder, for as many episodes, as one embedder.

    It takes the images of all episodes in one batch (E * B, C, H, W), the first episode's first, and gives features
    (E * B, D).

    Args:
        embedder: What to copy; `episodes_at_once` says whether and how often it can be.
        episodes: Number of copies E.
    """
    embedding = copy.deepcopy(embedder.embedding)
    if embedding.projection is not None:
        embedding.projection = _ParallelLinear(embedding.projection, episodes)
    backbone = _ParallelBackbone(embedder.backbone, episodes, len(embedder.views))
    stack = Embedder(embedder.config, embedding=embedding, inputs=embedder.inputs, backbone=backbone)
    stack.mean, stack.std = embedder.mean, embedder.std
    return stack


class _ParallelBackbone(nn.Module):
    """E copies of a backbone: V views of E * B images (V * E * B, C, H, W) -> (V * E * B, d)."""

    def __init__(self, backbone: nn.Module, episodes: int, views: int) -> None:
        super().__init__()
        self.network, self.episodes, self.views = _stacked(backbone, episodes), episodes, views

    def forward(self, images: Tensor) -> Tensor:
        images = images.unflatten(0, (self.views, self.episodes, -1))  # (V, E, B, C, H, W)
        stacked = images.transpose(1, 2).flatten(2, 3).flatten(0, 1)  # (V * B, E * C, H, W)
        features = self.network(stacked.contiguous(memory_format=torch.channels_last))  # (V * B, E * d)
        features = features.unflatten(1, (self.episodes, -1)).unflatten(0, (self.views, -1))  # (V, B, E, d)
        return features.transpose(1, 2).flatten(0, 2)


class _ParallelLinear(nn.Linear):
    """E copies of a linear layer: (E * B, d) -> (E * B, A)."""

    def __init__(self, linear: nn.Linear, episodes: int) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.episodes = episodes
        self.weight = nn.Parameter(linear.weight.detach().repeat(episodes, 1, 1))  # (E, A, d)
        if linear.bias is not None:
            self.bias = nn.Parameter(linear.bias.detach().repeat(episodes, 1, 1))  # (E, 1, A)

    def forward(self, features: Tensor) -> Tensor:
        answers = features.unflatten(0, (self.episodes, -1)) @ self.weight.transpose(1, 2)
        return (answers if self.bias is None else answers + self.bias).flatten(0, 1)


def episodes_at_once(learner: Embedder, pictures: int) -> int:
    """How many copies of a learner are stacked for episodes of so many pictures; 1 where one at a time is better.

    One at a time is better on devices other than a CPU (not measured there), for large networks and pictures, and for
    networks whose channels cannot be kept apart. The last is found by trial: a copy must answer what the network
    answers, and must not depend on the other copy's pictures at all.
    """
    weights = sum(weight.numel() for weight in learner.parameters())
    values = pictures * learner.config.channels * learner.config.image_size**2
    episodes = min(EPISODES_AT_ONCE, STACKED_WEIGHTS // max(1, weights), STACKED_VALUES // max(1, values))
    is_calibrated = learner.config.head == "maml" and learner.config.calibration_steps > 0  # each for itself
    if is_calibrated or episodes < 2 or learner.device.type != "cpu" or not _may_be_grouped(learner.backbone):
        return 1
    return episodes if _keeps_apart(learner) else 1


def _keeps_apart(learner: Embedder) -> bool:
    """Whether two stacked copies answer, each its own pictures, as the network itself does."""
    side, channels = learner.config.image_size, learner.config.channels
    pictures = torch.rand(2, 2, channels, side, side, generator=torch.Generator().manual_seed(0))
    pictures[0] *= 0.3  # dark ones and bright ones, so that a mixture of both is neither
    with evaluation_mode(learner):
        expected = torch.cat([learner.features(part) for part in pictures])
    try:
        stack = side_by_side(learner, 2).eval().requires_grad_(False)
        given = stack.features(pictures.requires_grad_().flatten(0, 1))
        (leak,) = torch.autograd.grad(given[:2].sum(), pictures)
    except Exception:
        return False
    alike = given.shape == expected.shape and (given - expected).abs().max() <= PROBE_TOLERANCE * expected.abs().max()
    return bool(alike) and not leak[1].any()


def adapt_and_score(learner: Embedder, support: Tensor, labels: Tensor, query: Tensor, n_way: int) -> Tensor:
    """Adapt a learner to several episodes, each for itself, and answer their queries.

    The same as `MetaLearner.adapt` and `FewShotClassifier.predict_proba` for each episode.

    Args:
        learner: One that `episodes_at_once` allows so many copies of.
        support: Prepared pictures (E, S, C, H, W) in [0, 1] of the learner's size.
        labels: (S,), 0..n_way-1, those of every episode.
        query: (E, Q, C, H, W).
        n_way: Number of classes.

    Returns:
        Scores (E, Q, n_way), whose softmax is the probability of each class.
    """
    stack = side_by_side(learner, len(support)).eval()
    labels = labels.expand(len(support), -1)
    if learner.batchnorm == "support":
        take_statistics(stack, support.flatten(0, 1))
    if learner.config.head == "maml":
        classifier = descend(stack, support.flatten(0, 1), labels, n_way)
    else:
        classifier = stack.embedding.fit_head(get_head(learner.config.head), _embed(stack, support), labels, n_way)
    return scores(classifier, _embed(stack, query))


def _embed(stack: Embedder, images: Tensor) -> Tensor:
    """`Embedder.embed` of each copy: (E, B, C, H, W) -> (E, B, D)."""
    transductive = stack.batchnorm == "transductive"
    with torch.no_grad(), batch_statistics(stack.backbone) if transductive else nullcontext():
        features = stack.prepare_features(stack.features(images.flatten(0, 1)))
    return features.unflatten(0, images.shape[:2])


def _may_be_grouped(network: nn.Module) -> bool:
    """Whether all weights are those of plain convolutions and BatchNorm, each used in one place.

    A subclass of a convolution may do what it likes with its weights; a weight in two places would become two.
    """
    from timm.layers import BatchNormAct2d  # seconds, which not every verb has to wait for

    names = [id(weight) for _, weight in network.named_parameters(remove_duplicate=False)]
    kinds = {type(part) for part in network.modules() if part._parameters or part._buffers}
    return len(set(names)) == len(names) and kinds <= {nn.Conv2d, nn.BatchNorm2d, BatchNormAct2d}


def _stacked(network: nn.Module, episodes: int) -> nn.Module:
    """A copy of a network with E times the channels, kept apart, for pictures (B, E * C, H, W)."""
    stacked = copy.deepcopy(network)
    for part in stacked.modules():
        for name, weight in [*part._parameters.items(), *part._buffers.items()]:
            if weight is not None and weight.dim():  # BatchNorm counts its batches in a scalar
                repeated = weight.detach().repeat(episodes, *[1] * (weight.dim() - 1))
                setattr(part, name, nn.Parameter(repeated) if name in part._parameters else repeated)
        if isinstance(part, nn.Conv2d):
            part.in_channels, part.out_channels = part.in_channels * episodes, part.out_channels * episodes
            part.groups *= episodes
        elif isinstance(part, nn.BatchNorm2d):
            part.num_features *= episodes
    return stacked.to(memory_format=torch.channels_last)
