"""Copies of a learner side by side: the same answers as one episode after the other."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from hf_free.config.sections import LearnerConfig
from hf_free.data.episodes import sample_episodes
from hf_free.evaluation.datasets import LabeledImages
from hf_free.evaluation.evaluate import EpisodeSettings, evaluate
from hf_free.learner.batchnorm import BatchNormMode
from hf_free.learner.gating import TeacherGate
from hf_free.learner.inputs import InputSettings
from hf_free.learner.meta_learner import MetaLearner
from hf_free.learner.parallel_episodes import EPISODES_AT_ONCE, adapt_and_score, episodes_at_once
from hf_free.learner.scoring import mean_and_interval
from hf_free.learner.support import SupportSet

N_WAY, SIZE = 3, 32


def make_learner(backbone: str, head: str, batchnorm: BatchNormMode, *, answers: bool = False) -> MetaLearner:
    """A learner with random weights and BatchNorm statistics that are not 0 and 1."""
    torch.manual_seed(0)
    config = LearnerConfig(backbone=backbone, head=head, image_size=SIZE)
    views = ("identity", "flip") if answers else ("identity",)
    learner = MetaLearner(config, inputs=InputSettings(views, batchnorm=batchnorm))
    if answers:
        learner.embedding.projection, learner.embedding.sizes = nn.Linear(learner.backbone_dim, 8), (3, 5)
        learner.embedding.projection.weight.data *= 100  # teachers that are sure of themselves
        learner.embedding.gate = TeacherGate((3, 5), learner.backbone_dim)
        learner.embedding.gate.fit(torch.randn(40, 8 + learner.backbone_dim), torch.arange(40) % 2)
        learner.embedding.gate.weight *= 300  # else both teachers weigh about alike and nothing would be seen of it
    for layer in learner.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.2, 0.2)
            layer.running_var.uniform_(0.5, 2)
    return learner.eval()


def make_episodes(count: int, k_shot: int = 2, n_query: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """Support, labels and query of episodes whose classes can be told apart, but not easily.

    The support is in a classifier's own order: MAML's steps carry what another order of a sum rounds off.
    """
    classes = torch.rand(count, N_WAY, 1, 3, SIZE, SIZE)
    support, query = (
        (0.5 * classes + 0.5 * torch.rand(count, N_WAY, shots, 3, SIZE, SIZE)).flatten(1, 2)
        for shots in (k_shot, n_query)
    )
    labels = torch.arange(N_WAY).repeat_interleave(k_shot)
    return torch.stack([SupportSet.of(rows, labels.tolist()).rows for rows in support]), labels, query


def one_after_the_other(learner: MetaLearner, support: Tensor, labels: Tensor, query: Tensor) -> Tensor:
    """Probabilities in the public way: adapt, then predict, an episode at a time."""
    pairs = zip(support, query, strict=True)
    return torch.stack([learner.adapt(seen, labels).predict_proba(asked) for seen, asked in pairs])


def carried_by_rounding(learner: MetaLearner, support: Tensor, labels: Tensor, query: Tensor, found: Tensor) -> Tensor:
    """How far support images that differ by a rounding error move the probabilities, at most of eight."""
    eps = torch.finfo(torch.float32).eps
    moved = [
        adapt_and_score(learner, support * (1 + eps * torch.randn_like(support)), labels, query, N_WAY).softmax(-1)
        for _ in range(8)
    ]
    return torch.stack([(one - found).abs().max() for one in moved]).max()


@pytest.mark.parametrize("batchnorm", ["running", "support", "transductive"])
@pytest.mark.parametrize(
    ("backbone", "head", "answers"),
    [
        ("conv4_32", "maml", False),
        ("test_resnet", "maml", False),
        pytest.param("test_efficientnet", "maml", False, marks=pytest.mark.long),
        ("conv4_32", "ridge", True),
    ],
)
def test_the_same_probabilities(backbone: str, head: str, answers: bool, batchnorm: BatchNormMode) -> None:
    """Every episode has a copy of its own: residual blocks, depthwise convolutions and squeeze-excitation as well."""
    learner = make_learner(backbone, head, batchnorm, answers=answers)
    support, labels, query = make_episodes(3)
    assert episodes_at_once(learner, 24) == EPISODES_AT_ONCE
    together = adapt_and_score(learner, support, labels, query, N_WAY).softmax(-1)
    single = one_after_the_other(learner, support, labels, query)
    spread = (single - 1 / N_WAY).abs().max()
    assert spread > 1e-3, "or any constant answer would do"
    off = (together - single).abs().max()
    if (
        off >= 0.01 * spread
    ):  # MAML's steps carry it far where rounding turns a ReLU the other way: no farther than that
        assert off < 1.5 * carried_by_rounding(learner, support, labels, query, together)


def test_the_copies_adapt_and_the_learner_stays_as_it_is() -> None:
    """MAML's steps change the answers, not the learner."""
    learner = make_learner("conv4_32", "maml", "support")
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    episodes = make_episodes(3)
    adapted = adapt_and_score(learner, *episodes, N_WAY)
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())
    learner.config = replace(learner.config, head="nearest_mean")  # where MAML starts from
    assert (adapted - adapt_and_score(learner, *episodes, N_WAY)).abs().max() > 1e-2


def test_teachers_are_weighed_by_each_episodes_own_support() -> None:
    """Without the factors the answers are others."""
    learner = make_learner("conv4_32", "ridge", "running", answers=True)
    episodes = make_episodes(3)
    weighed = adapt_and_score(learner, *episodes, N_WAY)
    learner.embedding.gate = None
    assert (weighed - adapt_and_score(learner, *episodes, N_WAY)).abs().max() > 1e-3


class Shuffling(nn.Module):
    """Mixes the channels without a weight."""

    def forward(self, maps: Tensor) -> Tensor:
        """Reverse the order of channels."""
        return maps.flip(1)


class Gate(nn.Module):
    """Weighs places by the mean over channels, which hardly differs between alike copies."""

    def forward(self, maps: Tensor) -> Tensor:
        """Multiply each place by its gate."""
        return maps * maps.mean(1, keepdim=True).sigmoid()


class CountsItsChannels(nn.Module):
    """Raises what no list of errors foresees."""

    def forward(self, maps: Tensor) -> Tensor:
        """Let 32 channels through."""
        if maps.shape[1] != 32:
            raise AttributeError("32 channels, please")
        return maps


@pytest.mark.parametrize("layer", [Shuffling, Gate, CountsItsChannels, nn.PReLU])
def test_networks_that_mix_channels_are_not_stacked(layer: type[nn.Module]) -> None:
    """Found out by asking, since no list of layers tells; a PReLU's one slope would be shared by all copies."""
    learner = make_learner("conv4_32", "maml", "running")
    learner.backbone.blocks.append(layer())
    assert episodes_at_once(learner, 24) == 1


def test_networks_with_a_weight_in_two_places_are_not_stacked() -> None:
    """The two would go their own ways."""
    learner = make_learner("conv4_32", "maml", "running")
    learner.backbone.blocks[2].conv.weight = learner.backbone.blocks[1].conv.weight
    assert episodes_at_once(learner, 24) == 1


def test_what_is_too_large_is_not_stacked() -> None:
    """Copies of large networks, and of networks for large pictures, would take the memory and save no time."""
    assert episodes_at_once(make_learner("resnet12_small", "maml", "running"), 24) == 1
    learner = make_learner("conv4_32", "maml", "running")
    assert [episodes_at_once(learner, pictures) for pictures in (170, 300, 400)] == [4, 2, 1]


@pytest.mark.parametrize("backbone", ["conv4_32", pytest.param("test_convnext", marks=pytest.mark.long)])
def test_evaluate_counts_the_last_smaller_batch_too(backbone: str) -> None:
    """Accuracies of the table are those of `adapt` and `predict`, an episode at a time."""
    learner = make_learner(backbone, "maml", "running")
    labels = torch.arange(4).repeat_interleave(6)
    prototypes = torch.rand(4, 3, SIZE, SIZE)[labels]
    pictures = ((0.3 * prototypes + 0.7 * torch.rand(24, 3, SIZE, SIZE)) * 255).byte()
    data = LabeledImages(pictures, labels, ["a", "b", "c", "d"], "made up", "test")
    count = EPISODES_AT_ONCE + 3
    report = evaluate(learner, data, EpisodeSettings(n_way=N_WAY, k_shots=[1], n_query=4, episodes=count, seed=3))
    drawn = sample_episodes(
        labels, n_way=N_WAY, k_shot=1, n_query=4, episodes=count, generator=torch.Generator().manual_seed(3)
    )
    right = []
    for support, query in zip(drawn.support, drawn.query, strict=True):
        best = learner.adapt(pictures[support.flatten()], torch.arange(N_WAY)).predict_proba(pictures[query.flatten()])
        right.append((best.argmax(1) == torch.arange(N_WAY).repeat_interleave(4)).float().mean())
    (row,) = report.rows
    expected = mean_and_interval(torch.stack(right))
    assert (row.accuracy, row.interval) == pytest.approx([100 * value for value in expected], abs=0.01)
    assert row.episodes == count
