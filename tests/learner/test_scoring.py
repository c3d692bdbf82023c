"""Accuracy of episodes from features, against loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hf_free.data.episodes import sample_episodes
from hf_free.errors import DatasetError
from hf_free.learner.scoring import mean_and_interval, score_episodes

LABELS = torch.arange(7).repeat_interleave(torch.tensor([20, 30, 6, 25, 40, 22, 20]))[
    torch.randperm(163, generator=torch.Generator().manual_seed(5))
]


def draw(labels=LABELS, *, n_way=5, k_shot=2, n_query=15, episodes=300, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return sample_episodes(labels, n_way=n_way, k_shot=k_shot, n_query=n_query, episodes=episodes, generator=generator)


@pytest.mark.parametrize("batch", [1, 7, 200])
def test_scores_equal_a_loop_over_episodes_and_queries(batch):
    features = torch.randn(len(LABELS), 6, generator=torch.Generator().manual_seed(1))
    features += 0.5 * torch.nn.functional.one_hot(LABELS, 7)[:, :6]
    drawn = draw(episodes=20)
    accuracies = score_episodes(features, drawn, batch=batch)
    rows = features.numpy() / np.linalg.norm(features.numpy(), axis=1, keepdims=True)
    for episode in range(20):
        means = np.stack([rows[pictures].mean(0) for pictures in drawn.support[episode].numpy()])
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        right = [
            np.argmax(means @ rows[picture]) == label
            for label in range(5)
            for picture in drawn.query[episode, label].tolist()
        ]
        assert accuracies[episode].item() == pytest.approx(np.mean(right), abs=1e-6)


def test_perfect_features_score_one_and_constant_ones_at_chance():
    drawn = draw(episodes=10)
    perfect = torch.nn.functional.one_hot(LABELS, 7).float()
    for head in ("nearest_mean", "ridge", "logistic", "anil"):
        assert score_episodes(perfect, drawn, head).tolist() == [1.0] * 10
    assert score_episodes(perfect, drawn, transductive="soft-kmeans").tolist() == [1.0] * 10
    assert score_episodes(torch.ones(len(LABELS), 3), drawn).mean().item() == pytest.approx(0.2)


def test_the_interval_is_the_normal_one():
    accuracies = torch.tensor([0.2, 0.5, 0.6, 0.9])
    mean, interval = mean_and_interval(accuracies)
    deviation = math.sqrt(sum((value - 0.55) ** 2 for value in (0.2, 0.5, 0.6, 0.9)) / 3)
    assert mean == pytest.approx(0.55)
    assert interval == pytest.approx(1.96 * deviation / 2)


def test_one_episode_has_no_interval():
    with pytest.raises(DatasetError, match="at least 2"):
        mean_and_interval(torch.tensor([0.5]))


@pytest.mark.parametrize("transductive", [None, "transport"])
def test_two_threads_score_as_one_does(transductive):
    features, drawn, before = torch.randn(len(LABELS), 6), draw(episodes=50), torch.get_num_threads()
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(score_episodes(features, drawn, "ridge", batch=8, transductive=transductive))
    torch.set_num_threads(before)
    assert torch.equal(*found)
