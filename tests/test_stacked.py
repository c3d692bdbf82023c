"""Copies of a learner side by side: the same answers as one episode after the other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hf_free.config import LearnerConfig
from hf_free.data import LabelledImages
from hf_free.episodes import sample_episodes
from hf_free.evaluation import evaluate
from hf_free.learner.meta_learner import BatchNormMode, MetaLearner
from hf_free.learner.relevance import Relevance
from hf_free.learner.stacked import EPISODES_AT_ONCE, adapt_and_predict, episodes_at_once

N_WAY, SIZE = 3, 32


def make_learner(backbone: str, head: str, batchnorm: BatchNormMode, *, answers: bool = False) -> MetaLearner:
    """A learner with random weights and BatchNorm statistics that are not 0 and 1."""
    torch.manual_seed(0)
    config = LearnerConfig(backbone=backbone, head=head, image_size=SIZE)
    learner = MetaLearner(config, batchnorm=batchnorm, views=("identity", "flip") if answers else ("identity",))
    if answers:
        learner.projection, learner.answer_sizes = nn.Linear(learner.backbone_dim, 8), (3, 5)
        learner.relevance = Relevance((3, 5), learner.backbone_dim)
        learner.relevance.fit(torch.randn(40, 8 + learner.backbone_dim), torch.arange(40) % 2)
    for layer in learner.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.2, 0.2)
            layer.running_var.uniform_(0.5, 2)
    return learner.eval()


def make_episodes(count: int, k_shot: int = 2, n_query: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """Support, labels and query of episodes whose classes can be told apart, but not easily."""
    classes = torch.rand(count, N_WAY, 1, 3, SIZE, SIZE)
    support, query = (
        (0.5 * classes + 0.5 * torch.rand(count, N_WAY, shots, 3, SIZE, SIZE)).flatten(1, 2)
        for shots in (k_shot, n_query)
    )
    return support, torch.arange(N_WAY).repeat_interleave(k_shot), query


def one_after_the_other(learner: MetaLearner, support: Tensor, labels: Tensor, query: Tensor) -> Tensor:
    """The public way: adapt, then predict, an episode at a time."""
    pairs = zip(support, query, strict=True)
    return torch.stack([learner.adapt(seen, labels).predict_proba(asked).argmax(1) for seen, asked in pairs])


@pytest.mark.parametrize("batchnorm", ["running", "support", "transductive"])
@pytest.mark.parametrize(
    ("backbone", "head", "answers"),
    [("conv4_32", "maml", False), ("test_resnet", "maml", False), ("test_efficientnet", "maml", False),
     ("conv4_32", "ridge", True)],
)  # fmt: skip
def test_the_same_answers(backbone: str, head: str, answers: bool, batchnorm: BatchNormMode) -> None:
    """Every episode has a copy of its own: residual blocks, depthwise convolutions and squeeze-excitation as well."""
    learner = make_learner(backbone, head, batchnorm, answers=answers)
    support, labels, query = make_episodes(5)
    assert episodes_at_once(learner) == EPISODES_AT_ONCE
    together = adapt_and_predict(learner, support, labels, query, N_WAY)
    single = one_after_the_other(learner, support, labels, query)
    assert together.shape == (5, query.shape[1])
    assert (together == single).float().mean() > 0.97, "a tie may fall the other way, no more"
    assert single.unique().numel() == N_WAY, "or any constant answer would do"


def test_the_learner_stays_as_it_is() -> None:
    """The copies adapt, the learner does not."""
    learner = make_learner("conv4_32", "maml", "support")
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    adapt_and_predict(learner, *make_episodes(3), N_WAY)
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())


class Shuffling(nn.Module):
    """Mixes the channels without a weight."""

    def forward(self, maps: Tensor) -> Tensor:
        """Reverse the order of channels."""
        return maps.flip(1)


def test_networks_that_mix_channels_are_not_stacked() -> None:
    """Found out by asking, since no list of layers tells."""
    learner = make_learner("conv4_32", "maml", "running")
    learner.backbone.blocks.append(Shuffling())
    assert episodes_at_once(learner) == 1


def test_networks_with_other_weights_are_not_stacked() -> None:
    """Channel-wise layers of other kinds, such as LayerNorm, are one at a time."""
    assert episodes_at_once(make_learner("test_convnext", "maml", "running")) == 1


def test_large_networks_are_not_stacked() -> None:
    """Their copies would take the memory and save no time."""
    assert episodes_at_once(make_learner("resnet12_small", "maml", "running")) == 1


@pytest.mark.parametrize("backbone", ["conv4_32", "test_convnext"])
def test_evaluate_counts_the_last_smaller_batch_too(backbone: str) -> None:
    """Accuracies of the table are those of `adapt` and `predict`, an episode at a time."""
    learner = make_learner(backbone, "maml", "running")
    labels = torch.arange(4).repeat_interleave(6)
    prototypes = torch.rand(4, 3, SIZE, SIZE)[labels]
    pictures = ((0.3 * prototypes + 0.7 * torch.rand(24, 3, SIZE, SIZE)) * 255).byte()
    data = LabelledImages(pictures, labels, ["a", "b", "c", "d"], "made up", "test")
    count = EPISODES_AT_ONCE + 1
    report = evaluate(learner, data, n_way=N_WAY, k_shots=[1], n_query=4, episodes=count, seed=3)
    drawn = sample_episodes(
        labels, n_way=N_WAY, k_shot=1, n_query=4, episodes=count, generator=torch.Generator().manual_seed(3)
    )
    right = []
    for support, query in zip(drawn.support, drawn.query, strict=True):
        best = learner.adapt(pictures[support.flatten()], torch.arange(N_WAY)).predict_proba(pictures[query.flatten()])
        right.append((best.argmax(1) == torch.arange(N_WAY).repeat_interleave(4)).float().mean())
    (row,) = report.rows
    assert row.accuracy == pytest.approx(100 * torch.stack(right).mean().item(), abs=1.0)
    assert row.episodes == count
