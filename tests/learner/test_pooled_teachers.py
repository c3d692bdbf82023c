"""Several teachers' features and answers in one vector, against plain arithmetic."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from hf_free.errors import LearnerError
from hf_free.learner.pooled_teachers import (
    ENTROPY,
    KIND_RELEVANCE,
    MOST_DIRECTIONS,
    OPTIONAL,
    RELEVANCE,
    TEMPERATURE,
    TRACE,
    UNKNOWN,
    PooledSpec,
    PooledTeachers,
    read_pooled,
)


def test_each_teachers_part_has_its_weight_for_its_length():
    generator = torch.Generator().manual_seed(0)
    pooled = PooledTeachers((4, 0, 3), (0, 5, 2))
    said = torch.randn(6, 14, generator=generator)
    pooled.center.copy_(torch.randn(7, generator=generator))
    pooled.feature_weights.copy_(torch.tensor([0.5, 9.0, 2.0]))
    pooled.answer_weights.copy_(torch.tensor([9.0, 0.25, 3.0]))
    seen = torch.randn(300, 4, generator=generator) * torch.tensor([5.0, 1.0, 1.0, 0.1])
    pooled.whitenings[0].fit(seen, 0.3)
    found = pooled(said)
    assert found.shape == (6, 17)

    matrix = _inverse_root(seen, 0.3)
    for row, expected in zip(said.double(), found.double(), strict=True):
        features, logits = row[:7] - pooled.center.double(), row[7:]
        first, last = features[:4] @ matrix, features[4:]
        parts = [0.5 * first / first.norm(), 2.0 * last / last.norm()]
        for part, weight in ((logits[:5], 0.25), (logits[5:], 3.0)):
            powers = (part / TEMPERATURE).exp()
            parts.append(weight * (powers / powers.sum()).sqrt())
        assert torch.allclose(torch.cat(parts), expected[:14], atol=1e-4)
        assert torch.allclose(expected[16] / TRACE, last.norm().log(), atol=1e-3)


def _inverse_root(seen: torch.Tensor, half: float) -> torch.Tensor:
    """(1 + S / (h m)) ^ -1/2, slowly; a factor does not matter, since features are of length 1 afterwards."""
    centered = (seen - seen.mean(0)).double()
    covariance = centered.T @ centered / len(centered)
    values, vectors = torch.linalg.eigh(torch.eye(4).double() + covariance / (half * covariance.diagonal().mean()))
    return vectors @ torch.diag(values.rsqrt()) @ vectors.T


def test_large_features_are_whitened_in_their_strongest_directions():
    assert len(PooledTeachers((MOST_DIRECTIONS + 50,), (0,)).whitenings[0].factors) == MOST_DIRECTIONS


@pytest.mark.parametrize(
    "described",
    [[], {"features": [3]}, {"features": [3], "answers": []}, {"features": [-1], "answers": [2]},
     {"features": [0], "answers": [0]}, {"features": [2.5], "answers": [2]}, {"features": [10**9], "answers": [0]},
     {"features": [3], "answers": [2], "entropy": 1}, {"features": [3], "answers": [2], "more": True},
     {"features": [3], "answers": [2], "temperatures": [2.0]}],
)  # fmt: skip
def test_sizes_that_cannot_be_are_refused(described):
    with pytest.raises(LearnerError, match="pooled"):
        read_pooled(described, "me/pooled")


def test_sizes_are_read():
    assert read_pooled(None, "x") is None
    older = {"features": [3, 0], "answers": [0, 2]}
    assert read_pooled(older, "x") == PooledSpec((3, 0), (0, 2))
    assert PooledSpec((3, 0), (0, 2)).describe() == older, "what older versions can read"
    for reads in (*map(frozenset, combinations(OPTIONAL, 1)), frozenset(OPTIONAL)):
        later = PooledSpec((3, 0), (0, 2), reads)
        assert read_pooled(later.describe(), "x") == later == later.build().spec


def test_each_teachers_answers_have_their_own_temperature_and_keep_it_among_fewer():
    said = torch.randn(6, 9, generator=torch.Generator().manual_seed(0))
    pooled = PooledTeachers((0, 0), (4, 5), ["temperatures"])
    pooled.temperatures.copy_(torch.tensor([0.5, 1.25]))
    found = pooled(said)[:, :-2]
    expected = [torch.softmax(said[:, :4] / 0.5, 1).sqrt(), torch.softmax(said[:, 4:] / 1.25, 1).sqrt()]
    torch.testing.assert_close(found, torch.cat(expected, 1))
    torch.testing.assert_close(pooled.only([1], [1.0])(said[:, 4:])[:, :-1], expected[1])


def test_lengths_are_those_of_features_that_are_whitened_further():
    """By the inverse root of a covariance of its own, which nobody has to keep."""
    seen = torch.randn(400, 4, generator=torch.Generator().manual_seed(1)) * torch.tensor([5.0, 2.0, 1.0, 0.1])
    pooled = PooledTeachers((4,), (0,), ["lengths"])
    pooled.whitenings[0].fit(seen, 2.0)
    pooled.sharpness.fill_(2.0 / 0.1)
    found = pooled(seen)[:, -1].double() / TRACE
    expected = (seen.double() @ _inverse_root(seen, 0.1)).norm(dim=1).log()
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(found, (seen.double() @ _inverse_root(seen, 2.0)).norm(dim=1).log(), atol=0.1)


def test_where_kinds_are_known_their_means_decide():
    generator = torch.Generator().manual_seed(0)
    pooled = PooledTeachers((3,) * 6, (2,) * 6)
    pooled.set_groups([0, 0, 0, 0, 0, 1], [7, 2, 7, 2, 7, UNKNOWN])
    said = torch.randn(4, 30, generator=generator)
    support = torch.nn.functional.normalize(pooled(said), dim=1)[None]
    found = pooled.relevance(support)[0].square()
    moved = said[:, :18].unflatten(1, (6, 3)).norm(dim=2).log().mean(0)
    first, second = moved[[0, 2, 4]].mean(), moved[[1, 3]].mean()
    weights = torch.stack([first, second, first, second, first]).mul(KIND_RELEVANCE).softmax(0)
    assert torch.allclose(found[:15:3] / found[15], 5 * weights, rtol=1e-2)


def test_a_kind_that_is_surer_of_its_answers_than_usual_counts_more():
    generator = torch.Generator().manual_seed(0)
    pooled = PooledTeachers((3,) * 5, (4, 4, 4, 0, 4), ["entropy"])
    pooled.set_groups([0, 0, 0, 0, 4], [0, 1, 1, 0, UNKNOWN])
    pooled.usual.copy_(torch.randn(5, generator=generator))
    usual, spread = torch.rand(2, 5, generator=generator) + 0.5
    pooled.usual_entropy.copy_(usual)
    pooled.entropy_spread.copy_(spread)
    said = torch.randn(6, 31, generator=generator)
    found = pooled(said)[:, -5:] / TRACE
    for teacher in range(5):
        expected = said[:, 3 * teacher : 3 * teacher + 3].norm(dim=1).log() - pooled.usual[teacher]
        if teacher < 3:  # the fourth gives no answers, and of the fifth no kind is known
            powers = (said[:, 15 + 4 * teacher : 19 + 4 * teacher] / TEMPERATURE).exp()
            shares = powers / powers.sum(1, keepdim=True)
            expected = expected + ENTROPY * (usual[teacher] + (shares * shares.log()).sum(1)) / spread[teacher]
        assert torch.allclose(found[:, teacher], expected, atol=1e-4)


def test_groups_and_kinds_are_one_tensor_in_which_groups_alone_have_no_kinds():
    pooled = PooledTeachers((3,) * 3, (2,) * 3)
    assert pooled.kinds.tolist() == [UNKNOWN] * 3
    pooled.set_groups([0, 2, 0], [1, UNKNOWN, 0])
    assert pooled.kinds.tolist() == [1, UNKNOWN, 0]
    assert (pooled.groups % 3).tolist() == [0, 2, 0]
    pooled.set_groups([0, 1, 2], [UNKNOWN] * 3)
    assert pooled.groups.tolist() == [0, 1, 2], "as learners hold it that were saved before kinds were found"


def test_of_many_alike_those_count_that_the_support_moves_most():
    generator = torch.Generator().manual_seed(0)
    pooled = PooledTeachers((3,) * 5, (2,) * 5)
    pooled.groups.copy_(torch.tensor([0, 0, 0, 0, 1]))
    pooled.usual.copy_(torch.randn(5, generator=generator))
    pooled.spread.copy_(torch.rand(5, generator=generator) + 0.5)
    said = torch.randn(2 * 4, 25, generator=generator)
    support = torch.nn.functional.normalize(pooled(said), dim=1).unflatten(0, (2, 4))
    factors = pooled.relevance(support)

    lengths = said[:, :15].unflatten(1, (5, 3)).norm(dim=2).log()
    moved = ((lengths - pooled.usual) / pooled.spread).unflatten(0, (2, 4)).mean(1)
    for episode in range(2):
        shares = 4 * (RELEVANCE * moved[episode, :4]).softmax(0)
        expected = torch.cat([shares, torch.ones(1)])
        found = factors[episode].square()
        assert torch.allclose(found[:15:3] / found[12], expected, rtol=1e-2)
        assert torch.allclose(found[15:25:2] / found[12], expected, rtol=1e-2)
        assert not found[25:].any()
        weighed = support[episode] * factors[episode]
        assert torch.isclose(weighed.square().sum(1).mean(), torch.tensor(1.0))
