"""Heads against slow plain computation, episode by episode."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from hf_free.errors import LearnerError
from hf_free.learner.heads import (
    ANIL_LR,
    ANIL_STEPS,
    COSINE_SCALE,
    HEADS,
    LinearClassifier,
    fit_anil,
    fit_logistic,
    fit_nearest_mean,
    fit_ridge,
    get_head,
    normalize_features,
    scores,
)

N_WAY, WIDTH = 3, 8


@pytest.fixture
def episodes():
    """Four episodes with unequal numbers of pictures a class, and queries; features far from length 1."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([[0, 0, 0, 1, 2, 2], [1, 0, 2, 2, 1, 2], [2, 1, 0, 0, 0, 0], [0, 1, 2, 0, 1, 2]])
    centers = torch.randn(4, N_WAY, WIDTH, generator=generator)
    support = centers.gather(1, labels.unsqueeze(-1).expand(-1, -1, WIDTH))
    support = 5 * (support + 0.7 * torch.randn(support.shape, generator=generator))
    queries = 3 * torch.randn(4, 9, WIDTH, generator=generator)
    return support.double(), labels, queries.double()


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_nearest_mean_equals_a_loop_over_classes_and_queries(episodes):
    support, labels, queries = episodes
    answers = scores(fit_nearest_mean(support, labels, N_WAY), queries)
    for episode in range(4):
        rows, queried = unit(support[episode].numpy()), unit(queries[episode].numpy())
        for query in range(9):
            for label in range(N_WAY):
                mean = rows[labels[episode].numpy() == label].mean(0)
                cosine = queried[query] @ mean / np.linalg.norm(mean)
                assert answers[episode, query, label].item() == pytest.approx(COSINE_SCALE * cosine, abs=1e-9)


def test_ridge_equals_the_normal_equations_with_classes_of_equal_weight(episodes):
    support, labels, queries = episodes
    answers = scores(fit_ridge(support, labels, N_WAY, penalty=0.3), queries)
    for episode in range(4):
        rows = np.hstack([unit(support[episode].numpy()), np.ones((6, 1))])
        targets = np.eye(N_WAY)[labels[episode].numpy()]
        weights = np.array([6 / (N_WAY * np.sum(targets[:, label])) for label in labels[episode].tolist()])
        weighted = rows.T * weights
        weight = np.linalg.solve(weighted @ rows + 0.3 * np.eye(WIDTH + 1), weighted @ targets)
        expected = np.hstack([unit(queries[episode].numpy()), np.ones((9, 1))]) @ weight
        np.testing.assert_allclose(answers[episode].numpy(), COSINE_SCALE * expected, atol=1e-9)


@pytest.mark.parametrize("penalty", [0.05, 1.0])
def test_logistic_equals_scikit_learn(episodes, penalty):
    support, labels, queries = episodes
    probabilities = scores(fit_logistic(support, labels, N_WAY, penalty=penalty), queries).softmax(-1)
    for episode in range(4):
        rows = np.hstack([unit(support[episode].numpy()), np.ones((6, 1))])
        reference = LogisticRegression(C=1 / penalty, fit_intercept=False, tol=1e-10, max_iter=10_000)
        reference.fit(rows, labels[episode].numpy())
        expected = reference.predict_proba(np.hstack([unit(queries[episode].numpy()), np.ones((9, 1))]))
        np.testing.assert_allclose(probabilities[episode].numpy(), expected, atol=1e-4)


def test_anil_equals_autograd_on_one_episode_at_a_time(episodes):
    support, labels, _ = episodes
    fitted = fit_anil(support, labels, N_WAY)
    for episode in range(4):
        inputs = normalize_features(support[episode])
        start = fit_nearest_mean(support[episode : episode + 1], labels[episode : episode + 1], N_WAY)
        weight, bias = (part[0].clone().requires_grad_() for part in start)
        for _ in range(ANIL_STEPS):
            loss = torch.nn.functional.cross_entropy(inputs @ weight.T + bias, labels[episode])
            step = torch.autograd.grad(loss, (weight, bias))
            weight, bias = (
                (part - ANIL_LR * slope).detach().requires_grad_()
                for part, slope in zip((weight, bias), step, strict=True)
            )
        torch.testing.assert_close(fitted.weight[episode], weight.detach())
        torch.testing.assert_close(fitted.bias[episode], bias.detach())


def test_anil_lowers_the_support_loss(episodes):
    support, labels, _ = episodes

    def loss(classifier):
        answers = scores(classifier, support).flatten(0, 1)
        return torch.nn.functional.cross_entropy(answers, labels.flatten())

    assert loss(fit_anil(support, labels, N_WAY)) < loss(fit_nearest_mean(support, labels, N_WAY))


@pytest.mark.parametrize("name", list(HEADS))
def test_episodes_in_a_batch_do_not_touch_each_other(episodes, name):
    support, labels, queries = episodes
    together = scores(HEADS[name](support, labels, N_WAY), queries)
    for episode in range(4):
        one = slice(episode, episode + 1)
        alone = scores(HEADS[name](support[one], labels[one], N_WAY), queries[one])
        torch.testing.assert_close(together[one], alone)


@pytest.mark.parametrize("name", list(HEADS))
def test_the_length_of_features_does_not_matter(episodes, name):
    support, labels, queries = episodes
    usual = scores(HEADS[name](support, labels, N_WAY), queries)
    longer = scores(HEADS[name](100 * support, labels, N_WAY), 0.01 * queries)
    torch.testing.assert_close(usual, longer)


def test_a_zero_feature_stays_zero_and_gives_no_nan():
    features = torch.zeros(1, 2, 4)
    assert not normalize_features(features).any()
    classifier = fit_nearest_mean(features, torch.tensor([[0, 1]]), 2)
    assert torch.equal(scores(classifier, features), torch.zeros(1, 2, 2))


def test_scores_add_the_bias():
    classifier = LinearClassifier(torch.zeros(1, 2, 4), torch.tensor([[1.0, -2.0]]))
    assert scores(classifier, torch.ones(1, 3, 4)).tolist() == [[[1.0, -2.0]] * 3]


def test_an_unknown_head_is_refused_with_the_known_ones():
    with pytest.raises(LearnerError, match=r"unknown head 'svm'[\s\S]*nearest_mean, ridge, logistic, anil, maml"):
        get_head("svm")
    with pytest.raises(LearnerError, match="cannot work on features"):
        get_head("maml")
