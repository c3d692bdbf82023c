"""One copy of a learner for each of several episodes, side by side in the channels of one network.

Where adaptation changes the network itself (MAML, BatchNorm statistics of the support) every episode needs its own.
A convolution over E times the channels in E times the groups computes E of them in one call, for weights that differ;
everything else that keeps channels apart needs no change. For small networks and pictures on a CPU it takes half to
five sixths of the time of one episode after the other, and less than `torch.func.vmap` (docs/experiments).
"""

from __future__ import annotations

import copy
from contextlib import nullcontext

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from hf_free.data.images import VIEWS
from hf_free.learner.batchnorm import batch_statistics, evaluation_mode, take_statistics
from hf_free.learner.embedding import joint_embedding
from hf_free.learner.heads import fit_weighted, get_head, scores
from hf_free.learner.maml import descend
from hf_free.learner.meta_learner import MetaLearner

EPISODES_AT_ONCE = 4
"""More are no faster: docs/experiments."""

STACKED_WEIGHTS = 2**22
"""Weights of all copies together, at most (16 MiB in fp32)."""

STACKED_VALUES = 2**21
"""Numbers in all pictures together, at most: 680 of 32x32 in colour. At 84 pixels copies side by side were slower."""

PROBE_TOLERANCE = 1e-4
"""Greatest relative difference of answers that may come from another order of summation (1e-6 measured)."""


class ParallelLearner(nn.Module):
    """E copies of a learner, for as many episodes.

    Args:
        learner: What to copy; `episodes_at_once` says whether and how often it can be.
        episodes: Number of copies E.
    """

    def __init__(self, learner: MetaLearner, episodes: int) -> None:
        super().__init__()
        self.learner = (learner,)  # a tuple keeps its own weights out of `parameters`
        self.backbone = _stacked(learner.backbone, episodes)
        self.weight = self.bias = None
        if learner.projection is not None:
            self.weight = nn.Parameter(learner.projection.weight.detach().repeat(episodes, 1, 1))  # (E, A, d)
            if learner.projection.bias is not None:
                self.bias = nn.Parameter(learner.projection.bias.detach().repeat(episodes, 1, 1))  # (E, 1, A)

    def features(self, images: Tensor) -> Tensor:
        """`MetaLearner.features` of each copy: prepared pictures (E, B, C, H, W) in [0, 1] -> (E, B, D)."""
        (learner,) = self.learner
        views = len(learner.views)
        episodes, count = images.shape[:2]
        stacked = torch.stack([VIEWS[name](images) for name in learner.views]).flatten(0, 2)  # (V * E * B, C, H, W)
        stacked = ((stacked - learner.mean) / learner.std).unflatten(0, (views, episodes, count))
        side_by_side = stacked.transpose(1, 2).flatten(2, 3).flatten(0, 1)  # (V * B, E * C, H, W)
        features = self.backbone(side_by_side.contiguous(memory_format=torch.channels_last))  # (V * B, E * d)
        features = features.float().unflatten(1, (episodes, -1)).unflatten(0, (views, count)).mean(0).transpose(0, 1)
        if self.weight is None:
            return features
        answers = features @ self.weight.transpose(1, 2)
        answers = answers if self.bias is None else answers + self.bias
        if learner.answer_sizes is None:
            return answers
        rows = answers.flatten(0, 1), features.flatten(0, 1)
        joint = joint_embedding(*rows, learner.answer_sizes, learner.shared_classes)
        return joint.unflatten(0, (episodes, count))

    def prepare_features(self, features: Tensor) -> Tensor:
        """`MetaLearner.prepare_features`, which is the same for all copies."""
        return self.learner[0].prepare_features(features)


def episodes_at_once(learner: MetaLearner, pictures: int) -> int:
    """How many copies of a learner are stacked for episodes of so many pictures; 1 where one at a time is better.

    That is so on other devices than a CPU (not measured there), for large networks and pictures, and for networks
    whose channels cannot be kept apart. The last is tried rather than known: what one copy answers must be what the
    network answers, and must not depend on the other copy's pictures at all.
    """
    weights = sum(weight.numel() for weight in learner.parameters())
    values = pictures * learner.config.channels * learner.config.image_size**2
    episodes = min(EPISODES_AT_ONCE, STACKED_WEIGHTS // max(1, weights), STACKED_VALUES // max(1, values))
    if episodes < 2 or learner.device.type != "cpu" or not _may_be_grouped(learner.backbone):
        return 1
    return episodes if _keeps_apart(learner) else 1


def _keeps_apart(learner: MetaLearner) -> bool:
    """Whether two stacked copies answer, each its own pictures, as the network itself does."""
    side, channels = learner.config.image_size, learner.config.channels
    pictures = torch.rand(2, 2, channels, side, side, generator=torch.Generator().manual_seed(0))
    pictures[0] *= 0.3  # dark ones and bright ones, so that a mixture of both is neither
    with evaluation_mode(learner):
        expected = torch.stack([learner.features(part) for part in pictures])
    try:
        stack = ParallelLearner(learner, 2).eval().requires_grad_(False)
        given = stack.features(pictures.requires_grad_())
        (leak,) = torch.autograd.grad(given[0].sum(), pictures)
    except Exception:
        return False
    alike = given.shape == expected.shape and (given - expected).abs().max() <= PROBE_TOLERANCE * expected.abs().max()
    return bool(alike) and not leak[1].any()


def adapt_and_score(learner: MetaLearner, support: Tensor, labels: Tensor, query: Tensor, n_way: int) -> Tensor:
    """Adapt a learner to several episodes, each for itself, and answer their queries.

    The same as `MetaLearner.adapt` and `FewShotClassifier.predict` an episode.

    Args:
        learner: One that `episodes_at_once` allows so many copies of.
        support: Prepared pictures (E, S, C, H, W) in [0, 1] of the learner's size.
        labels: (S,), 0..n_way-1, those of every episode.
        query: (E, Q, C, H, W).
        n_way: Number of classes.

    Returns:
        Scores (E, Q, n_way), whose softmax is the probability of each class.
    """
    stack = ParallelLearner(learner, len(support)).eval()
    labels = labels.expand(len(support), -1)
    transductive = learner.batchnorm == "transductive"
    if learner.batchnorm == "support":
        take_statistics(stack, support)
    if learner.config.head == "maml":
        classifier = descend(stack, support, labels, n_way, transductive=transductive)
    else:
        features = _embed(stack, support, transductive)
        factors = None if learner.relevance is None else learner.relevance(features)
        classifier = fit_weighted(get_head(learner.config.head), features, labels, n_way, factors, learner.damping)
    return scores(classifier, _embed(stack, query, transductive))


def _embed(stack: ParallelLearner, images: Tensor, transductive: bool) -> Tensor:
    """`MetaLearner.embed` of each copy: (E, B, C, H, W) -> (E, B, D)."""
    with torch.no_grad(), batch_statistics(stack.backbone) if transductive else nullcontext():
        return stack.prepare_features(stack.features(images))


def _may_be_grouped(network: nn.Module) -> bool:
    """Whether all weights are those of plain convolutions and BatchNorm, each used in one place.

    A subclass of a convolution may do what it likes with its weights; a weight in two places would become two.
    """
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
