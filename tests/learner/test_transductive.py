"""Heads that see all queries at once, against slow plain computation."""

from __future__ import annotations

import math
import operator

import pytest
import torch

from hf_free.errors import LearnerError
from hf_free.learner.heads import fit_ridge, normalize_features, scores
from hf_free.learner.transductive import (
    ASSUMES_EQUAL_CLASSES,
    SINKHORN_ROUNDS,
    TRANSDUCTIVE,
    balanced_plan,
    get_transductive,
    transductive_probabilities,
)

N_WAY = 3


def episode(seed=0, queries=(6, 6, 6), spread=0.6):
    generator = torch.Generator().manual_seed(seed)
    labels, truth = torch.tensor([2, 0, 1, 1]), torch.tensor([c for c, n in enumerate(queries) for _ in range(n)])
    centers = torch.randn(N_WAY, 8, generator=generator)

    def around(classes):
        return normalize_features(centers[classes] + spread * torch.randn(len(classes), 8, generator=generator))

    return around(labels), labels, around(truth), truth


def unit(vector):
    length = math.sqrt(sum(value * value for value in vector))
    return [value / length for value in vector]


def mean_of(rows, weights):
    total = sum(weights)
    return [sum(w * row[d] for w, row in zip(weights, rows, strict=True)) / total for d in range(len(rows[0]))]


def plain_transport(support, labels, query, balanced):
    """PT-MAP's means with lists of numbers."""
    rows = [*support.tolist(), *query.tolist()]
    middle = mean_of(rows, [1] * len(rows))
    shown, asked = (
        [unit([a - b for a, b in zip(row, middle, strict=True)]) for row in part.tolist()] for part in (support, query)
    )
    own = [[float(label == c) for label in labels.tolist()] for c in range(N_WAY)]
    means = [mean_of(shown, own[c]) for c in range(N_WAY)]

    def plan():
        rows = [
            [math.exp(-10 * sum((a - b) ** 2 for a, b in zip(row, mean, strict=True))) for mean in means]
            for row in asked
        ]
        rows = [[value / max(row) for value in row] for row in rows]  # where the scalings start
        for _ in range(SINKHORN_ROUNDS if balanced else 1):
            if balanced:
                sums = [sum(row[c] for row in rows) for c in range(N_WAY)]
                rows = [[row[c] * len(rows) / N_WAY / sums[c] for c in range(N_WAY)] for row in rows]
            rows = [[value / sum(row) for value in row] for row in rows]
        return rows

    for _ in range(20):
        shares = plan()
        moved = [mean_of([*shown, *asked], [*own[c], *[row[c] for row in shares]]) for c in range(N_WAY)]
        means = [
            [a + 0.2 * (b - a) for a, b in zip(old, new, strict=True)] for old, new in zip(means, moved, strict=True)
        ]
    return torch.tensor(plan())


@pytest.mark.parametrize(("name", "balanced"), [("transport", False), ("balanced-transport", True)])
def test_transport_is_the_plain_computation(name, balanced):
    support, labels, query, _ = episode()
    found = transductive_probabilities(name, support, labels, query)
    torch.testing.assert_close(found, plain_transport(support, labels, query, balanced), rtol=1e-3, atol=1e-4)


def test_soft_kmeans_is_a_plain_loop():
    support, labels, query, _ = episode()
    means = [unit(mean_of(support[labels == c].tolist(), [1] * int((labels == c).sum()))) for c in range(N_WAY)]

    def shares():
        rows = [[math.exp(10 * sum(map(operator.mul, row, mean))) for mean in means] for row in query.tolist()]
        return [[value / sum(row) for value in row] for row in rows]

    for _ in range(5):
        rows, likely = [*support.tolist(), *query.tolist()], shares()
        own = [[float(label == c) for label in labels.tolist()] + [row[c] for row in likely] for c in range(N_WAY)]
        means = [unit(mean_of(rows, weights)) for weights in own]
    found = transductive_probabilities("soft-kmeans", support, labels, query)
    torch.testing.assert_close(found, torch.tensor(shares()), rtol=1e-4, atol=1e-5)


def test_the_centered_head_is_the_head_on_features_without_their_common_mean():
    support, labels, query, _ = episode()
    mean = torch.cat([support, query]).mean(0)
    shown, asked = normalize_features(support - mean), normalize_features(query - mean)
    expected = scores(fit_ridge(shown[None], labels[None], N_WAY), asked[None])[0].softmax(-1)
    torch.testing.assert_close(transductive_probabilities("centered", support, labels, query), expected)


def test_a_balanced_plan_has_the_sums_it_promises():
    plan = balanced_plan(torch.rand(2, 12, N_WAY, generator=torch.Generator().manual_seed(0)) + 0.01)
    torch.testing.assert_close(plan.sum(2), torch.ones(2, 12))
    torch.testing.assert_close(plan.sum(1), torch.full((2, N_WAY), 4.0), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", TRANSDUCTIVE)
def test_each_gives_probabilities_and_helps_where_queries_show_the_classes(name):
    accuracies, inductive = [], []
    for seed in range(20):
        support, labels, query, truth = episode(seed)
        found = transductive_probabilities(name, support, labels, query)
        torch.testing.assert_close(found.sum(1), torch.ones(len(query)))
        assert (found >= 0).all()
        accuracies.append((found.argmax(1) == truth).float().mean())
        alone = scores(fit_ridge(support[None], labels[None], N_WAY), query[None])[0]
        inductive.append((alone.argmax(1) == truth).float().mean())
    assert torch.stack(accuracies).mean() > torch.stack(inductive).mean() + 0.01


def test_only_the_one_that_says_so_divides_the_queries_equally():
    assert {"balanced-transport"} == ASSUMES_EQUAL_CLASSES
    support, labels, query, _ = episode(queries=(16, 1, 1), spread=0.2)
    for name in TRANSDUCTIVE:
        counts = transductive_probabilities(name, support, labels, query).sum(0)
        if name in ASSUMES_EQUAL_CLASSES:
            torch.testing.assert_close(counts, torch.full((N_WAY,), 6.0), rtol=1e-2, atol=1e-2)
        else:
            assert counts[0] > 10


@pytest.mark.parametrize("name", TRANSDUCTIVE)
def test_episodes_do_not_mix(name):
    first, second = episode(0), episode(1)
    both = get_transductive(name)(
        *(torch.stack([a, b]) for a, b in zip(first[:3], second[:3], strict=True)), N_WAY, fit_ridge
    )
    for row, (support, labels, query, _) in zip(both, (first, second), strict=True):
        torch.testing.assert_close(row, transductive_probabilities(name, support, labels, query))


def test_an_unknown_head_is_refused_with_those_there_are():
    with pytest.raises(LearnerError, match=r"unknown transductive head 'kmeans'[\s\S]*soft-kmeans"):
        get_transductive("kmeans")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"labels": torch.tensor([0, 0, 2, 2])}, r"labels \[0, 2\]"),
        ({"labels": torch.tensor([0.0, 0.0, 1.0, 1.0])}, "of type torch.float32"),
        ({"labels": torch.tensor([0, 0, 1])}, r"labels \(3,\)"),
        ({"labels": [0, 0, 1, 1]}, "labels"),
        ({"query": torch.rand(3, 9)}, r"support \(4, 8\), labels \(4,\), query \(3, 9\)"),
        ({"support": torch.rand(1, 4, 8)}, "do not go together"),
        ({"query": torch.full((3, 8), torch.nan)}, "NaN or infinite"),
    ],
)
def test_tensors_that_do_not_fit_each_other_are_refused(changed, said):
    given = {"support": torch.rand(4, 8), "labels": torch.tensor([0, 0, 1, 1]), "query": torch.rand(3, 8), **changed}
    with pytest.raises(LearnerError, match=said):
        transductive_probabilities("soft-kmeans", **given)
