"""Which teachers stand for all, against plain computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression

from hf_free.learner.pooled_teachers import PooledTeachers
from hf_free.pooling.fit import fit_pooled
from hf_free.pooling.keeping import allotted, chosen, most_alike
from hf_free.pooling.pictures import Said


def coefficient(one, other):
    """The RV coefficient of two embeddings, slowly."""
    one, other = (part.double() - part.double().mean(0) for part in (one, other))
    one, other = one @ one.T, other @ other.T
    return float((one * other).sum() / (one.norm() * other.norm()))


@pytest.fixture(scope="module")
def of_three_subjects():
    """Nine teachers, three each of three subjects; two of the first are nearly the same."""
    generator = torch.Generator().manual_seed(0)
    subjects = [torch.randn(300, 6, generator=generator) for _ in range(3)]
    features = [subjects[place // 3] @ torch.randn(6, 8, generator=generator) for place in range(9)]
    features[1] = features[0] + 0.01 * torch.randn(300, 8, generator=generator)
    logits = [part @ torch.randn(8, 4, generator=generator) for part in features]
    said = Said(tuple(features), tuple(logits))
    return fit_pooled(said, ["small"] * 9), said


def embedding(pooled, said, places, shares=None):
    some = pooled.only(places, [1.0] * len(places) if shares is None else shares)
    return some(torch.cat([*(said.features[place] for place in places), *(said.logits[place] for place in places)], 1))


def test_those_that_are_kept_agree_with_all_as_much_as_is_said(of_three_subjects):
    pooled, said = of_three_subjects
    whole = embedding(pooled, said, range(9))[:, :-9]
    for count in range(1, 10):
        kept = most_alike(pooled, said, count)
        some = embedding(pooled, said, kept.places, kept.shares)[:, :-count]
        assert kept.agreement == pytest.approx(coefficient(some, whole), abs=1e-4)
    assert kept.agreement == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("count", [3, 6])
def test_every_kind_keeps_its_share(of_three_subjects, count):
    pooled, said = of_three_subjects
    assert len(set(pooled.kinds.tolist())) == 3
    kept = most_alike(pooled, said, count)
    subjects = [place // 3 for place in kept.places]
    assert subjects == [0, 1, 2] if count == 3 else [0, 0, 1, 1, 2, 2]
    for subject in range(3):
        shares = sum(share for share, one in zip(kept.shares, subjects, strict=True) if one == subject)
        assert 1.3 < shares < 3.1, "they stand for three"


@pytest.mark.parametrize(
    ("sizes", "count", "places"),
    [
        ([10, 10, 10], 9, [3, 3, 3]),
        ([6, 3, 1], 5, [3, 2, 0]),
        ([5], 4, [4]),
        ([1, 1, 1], 2, [1, 1, 0]),
        ([2, 3], 5, [2, 3]),
    ],
)
def test_places_are_in_proportion(sizes, count, places):
    assert allotted(sizes, count) == places


def test_two_that_are_the_same_are_one_of_twice_the_share():
    products = torch.randn(3, 40, generator=torch.Generator().manual_seed(0)).abs()
    kept = chosen(torch.stack([products[0], products[1], products[0], products[2]]), 3)
    shares = dict(zip(kept.places, kept.shares, strict=True))
    assert shares.pop(0, 0) + shares.pop(2, 0) == pytest.approx(2, abs=1e-3)
    assert shares == {1: pytest.approx(1, abs=1e-3), 3: pytest.approx(1, abs=1e-3)}
    assert kept.agreement == pytest.approx(1, abs=1e-5)


def test_the_next_one_explains_most_of_what_is_missing_and_all_shares_are_found_anew():
    products = torch.randn(7, 50, generator=torch.Generator().manual_seed(1)) + 1
    table, target, places = products.double().numpy(), products.sum(0).double().numpy(), []
    for count in (1, 2, 3, 4):
        model = LinearRegression(fit_intercept=False, positive=True)
        rest = target - (model.fit(table[places].T, target).predict(table[places].T) if places else 0)
        places.append(int(np.argmax(table @ rest / np.linalg.norm(table, axis=1) - 1e9 * np.isin(range(7), places))))
        kept = chosen(products, count)
        assert set(kept.places) == set(places)
        expected = model.fit(table[list(kept.places)].T, target).coef_
        assert kept.shares == pytest.approx(expected.tolist(), abs=1e-4)


def test_teachers_that_all_say_nothing_are_kept_without_an_error():
    kept = chosen(torch.zeros(3, 4), 2)
    assert (len(kept.places), kept.agreement) == (2, 0.0)


def test_some_of_the_teachers_embed_pictures_as_they_did_among_all(of_three_subjects):
    pooled, said = of_three_subjects
    places = [1, 2, 4, 5, 8]
    whole, some = embedding(pooled, said, range(9)), embedding(pooled, said, places)
    columns = whole.split([*pooled.feature_sizes, *pooled.answer_sizes, 9], 1)
    parts = [columns[place] for place in [*places, *(9 + place for place in places)]]
    assert torch.equal(some, torch.cat([*parts, columns[-1][:, places]], 1))
    assert pooled.only(places, [1] * 5).kinds.tolist() == pooled.kinds[places].tolist()


def test_groups_are_numbered_anew():
    pooled = PooledTeachers((0, 3, 2, 3, 2), (2, 2, 0, 2, 2))
    pooled.set_groups([0, 1, 2, 1, 2], [-1, 0, 1, 1, 0])
    some = pooled.only([3, 1, 4], [4, 1, 1])
    assert (some.groups % 3).tolist() == [0, 0, 2]
    assert some.kinds.tolist() == [1, 0, 0]
    assert some.feature_weights.tolist() == some.answer_weights.tolist() == [2, 1, 1]
    assert (some.feature_sizes, some.answer_sizes) == ((3, 3, 2), (2, 2, 2))
