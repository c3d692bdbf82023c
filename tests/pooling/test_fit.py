"""What each teacher contributes, against slow plain computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hf_free.learner.pooled_teachers import ENTROPY, TEMPERATURE, TRACE, UNKNOWN, entropy
from hf_free.pooling.agreement import agreement, effective_rank
from hf_free.pooling.fit import (
    LEAST_TEMPERATURE,
    LENGTH_LEVEL,
    MOST_ENTROPY,
    MOST_VOTES,
    answer_share,
    feature_shares,
    fit_pooled,
    kinds_within,
    relevance_groups,
    temperature_of,
    whitened_rank,
)
from hf_free.pooling.pictures import Said


def said(count=300):
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(count, 6, generator=generator)
    features = [common @ torch.randn(6, width, generator=generator) + 1 for width in (7, 9)]
    features.append(torch.randn(count, 5, generator=generator))
    logits = [torch.randn(count, number, generator=generator) for number in (3, 4, 2)]
    return Said(tuple(features), tuple(logits))


def whitened(features, rank):
    centered = (features - features.mean(0)).double()
    covariance = centered.T @ centered / len(centered)
    values, vectors = torch.linalg.eigh(covariance)
    turned = centered @ vectors * (1 + values / values[-rank]).rsqrt() @ vectors.T
    return turned / turned.norm(dim=1, keepdim=True)


def test_an_embeddings_inner_product_is_the_sum_of_shares_and_cosines():
    given = said()
    pooled = fit_pooled(given, ["a", "b", "c"])
    found = pooled(torch.cat([*given.features, *given.logits], 1))[:, :-3].double()
    tables = [whitened(part, rank) for part, rank in zip(given.features, (4, 4, 2), strict=True)]  # half of 7, 9, 5
    temperatures = map(temperature_of, given.logits)
    answers = [
        torch.softmax(part.double() / value, 1).sqrt() for part, value in zip(given.logits, temperatures, strict=True)
    ]
    ranks, classes = torch.tensor([effective_rank(table) for table in tables]), (3, 4, 2)
    shares = torch.linalg.eigh(agreement(tables).double())[1][:, -1].square()
    shares = shares * torch.tensor(classes)
    shares = shares / shares.sum()
    ratio = effective_rank(torch.cat(answers, 1)) / (shares * ranks).sum()
    expected = sum(share * table @ table.T for share, table in zip(shares, tables, strict=True))
    expected = expected + sum(ratio * len(answer.T) / 9 * answer @ answer.T for answer in answers)
    assert torch.allclose(found @ found.T, expected, atol=1e-3)
    assert shares[2] < min(shares[0], shares[1])


def test_answers_that_are_all_alike_are_sharpened_until_they_are_not():
    """A plain search over a fine grid of temperatures finds the same."""
    given = said()
    flat, sure = 0.05 * given.logits[0], 10 * given.logits[1]
    highest = MOST_ENTROPY * np.log(3)
    grid = np.arange(LEAST_TEMPERATURE, TEMPERATURE, 1e-3)
    means = [entropy(torch.softmax(given.logits[0] / float(value), 1)).mean().item() for value in grid]
    expected = grid[np.searchsorted(means, highest) - 1]
    assert temperature_of(given.logits[0]) == pytest.approx(expected, abs=3e-3)
    assert expected < TEMPERATURE - 0.1
    assert temperature_of(flat) == LEAST_TEMPERATURE
    assert temperature_of(sure) == temperature_of(torch.zeros(9, 1)) == TEMPERATURE


def test_only_where_a_teacher_needs_one_there_are_temperatures():
    given = said()
    sure = Said(given.features, tuple(10 * part for part in given.logits))
    assert fit_pooled(sure, ["a", "b", "c"]).temperatures is None
    mixed = Said(given.features, (*sure.logits[:2], given.logits[2]))
    found = fit_pooled(mixed, ["a", "b", "c"]).temperatures.tolist()
    assert found[:2] == [TEMPERATURE] * 2
    assert found[2] == pytest.approx(temperature_of(given.logits[2]))
    assert found[2] < TEMPERATURE


@pytest.mark.parametrize(
    ("classes", "directions", "rank"), [(2, 256, 5), (10, 64, 25), (10, 16, 8), (1000, 256, 128), (3, 1, 1)]
)
def test_as_many_directions_are_whitened_as_a_teacher_has_classes_to_tell_apart(classes, directions, rank):
    assert whitened_rank(classes, directions) == rank


def test_where_kinds_are_known_lengths_and_entropies_are_counted_from_what_is_usual():
    generator = torch.Generator().manual_seed(0)
    kinds = [torch.randn(400, 6, generator=generator) for _ in range(3)]  # what each of three kinds of teachers sees
    seen = [kinds[place // 3] @ torch.randn(6, 8, generator=generator) + place for place in range(9)]
    logits = [part @ torch.randn(8, 4, generator=generator) for part in seen]
    pooled = fit_pooled(Said(tuple(seen), tuple(logits)), ["small"] * 9)
    assert (pooled.kinds != UNKNOWN).all()
    found = pooled(torch.cat([*seen, *logits], 1))[:, -9:] / TRACE
    assert torch.allclose(found.mean(0), torch.zeros(9), atol=1e-3)
    for teacher in range(9):
        shares = (logits[teacher] / temperature_of(logits[teacher])).softmax(1).double()
        entropies = -(shares * shares.log()).sum(1).float()
        parts = torch.stack([(entropies.mean() - entropies) / entropies.std(), lengths_of(seen[teacher])])
        assert torch.allclose(found[:, teacher], ENTROPY * parts[0] + parts[1], atol=1e-2)


def lengths_of(features):
    """In deviations, of features that are whitened nearly whole."""
    centered = (features - features.mean(0)).double()
    variances, vectors = torch.linalg.eigh(centered.T @ centered / len(centered))
    whitened = centered @ vectors * (1 + variances / (LENGTH_LEVEL * variances.mean())).rsqrt()
    lengths = whitened.norm(dim=1).log().float()
    return (lengths - lengths.mean()) / lengths.std()


def test_many_of_one_architecture_have_few_votes():
    coefficients = torch.full((12, 12), 0.5).fill_diagonal_(1)
    shares = feature_shares(coefficients, ["small"] * 10 + ["strong", "stronger"], torch.ones(12))
    assert 0.5 * MOST_VOTES * shares[10] < shares[:10].sum() <= MOST_VOTES * shares[10]
    assert torch.isclose(shares[10], shares[11])
    assert torch.isclose(shares.sum(), torch.tensor(1.0))


def test_answers_of_the_same_say_no_more_than_one():
    given = said()
    ranks, shares = torch.tensor([6.0, 7.0, 5.0]), torch.tensor([0.5, 0.3, 0.2])
    one = answer_share(ranks, shares, [given.logits[0]])
    assert abs(answer_share(ranks, shares, [given.logits[0]] * 5) - one) < 1e-6
    assert answer_share(ranks, shares, given.logits) > one


def test_one_network_of_many_classes_is_not_outvoted_by_small_ones_that_agree():
    coefficients = torch.full((7, 7), 0.4).fill_diagonal_(1)
    coefficients[0, 1:] = coefficients[1:, 0] = 0.25
    names, classes = list("abcdefg"), torch.tensor([1000.0] + [10.0] * 6)
    assert feature_shares(coefficients, names, torch.full((7,), 10.0))[0] < 0.11
    assert feature_shares(coefficients, names, classes)[0] > 0.85


def test_only_teachers_of_one_architecture_and_several_kinds_share_anew():
    same, across = 0.5, 0.05
    coefficients = torch.full((8, 8), across)
    coefficients[:4, :4] = coefficients[4:, 4:] = same
    coefficients.fill_diagonal_(1)
    assert relevance_groups(coefficients, ["small"] * 8) == [0] * 8
    assert relevance_groups(coefficients, ["small"] * 4 + ["large"] * 4) == list(range(8))
    alike = torch.full((8, 8), same).fill_diagonal_(1)
    assert relevance_groups(alike, ["small"] * 8) == list(range(8))


def test_kinds_are_found_within_a_group_alone():
    same, across = 0.5, 0.05
    coefficients = torch.full((9, 9), across)
    for start in (0, 3, 6):
        coefficients[start : start + 3, start : start + 3] = same
    coefficients.fill_diagonal_(1)
    kinds = kinds_within(coefficients, [0] * 9)
    assert [len(set(kinds[start : start + 3])) for start in (0, 3, 6)] == [1, 1, 1]
    assert len(set(kinds)) == 3
    assert kinds_within(coefficients, list(range(9))) == [UNKNOWN] * 9
    parts = kinds_within(coefficients, [0] * 6 + [6, 7, 8])
    assert parts[6:] == [UNKNOWN] * 3
    assert parts[:3] == [parts[0]] * 3 != parts[3:6] == [parts[3]] * 3
