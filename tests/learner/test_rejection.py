"""The threshold of pictures of no known class."""

from __future__ import annotations

import pytest
import torch

from hf_free.errors import LearnerError
from hf_free.learner.embedding import Embedding
from hf_free.learner.heads import fit_ridge, normalize_features, scores
from hf_free.learner.rejection import folds, left_out_confidence, threshold_for

LABELS = torch.tensor([0, 0, 0, 1, 1, 2])
SUPPORT = normalize_features(torch.eye(3)[LABELS] + 0.4 * torch.rand(6, 3, generator=torch.Generator().manual_seed(0)))


def one_at_a_time() -> list[float]:
    found = []
    for place in range(5):  # the last picture is the only one of its class
        kept = [other for other in range(6) if other != place]
        classifier = fit_ridge(SUPPORT[kept][None], LABELS[kept][None], 3)
        found.append(scores(classifier, SUPPORT[place][None, None])[0, 0].max().item())
    return sorted(found)


def test_each_picture_is_answered_without_itself():
    found = left_out_confidence(Embedding(), fit_ridge, SUPPORT, LABELS)
    torch.testing.assert_close(found.sort().values, torch.tensor(one_at_a_time()))


def test_the_threshold_is_the_share_of_them():
    threshold = threshold_for(Embedding(), fit_ridge, SUPPORT, LABELS, 0.25)
    assert threshold == pytest.approx(one_at_a_time()[1], abs=1e-6)


def test_one_picture_a_class_cannot_be_left_out():
    with pytest.raises(LearnerError, match=r"every class has one support picture[\s\S]*\(--reject\) out"):
        threshold_for(Embedding(), fit_ridge, torch.eye(3), torch.arange(3))


def test_many_pictures_are_left_out_several_at_a_time_each_once():
    labels = [index % 3 for index in range(100)]
    found = folds(labels, 10)
    assert sorted(place for fold in found for place in fold) == list(range(100))
    assert len(found) == 10
    assert all(max(labels[place] for place in fold) == 2 for fold in found)
