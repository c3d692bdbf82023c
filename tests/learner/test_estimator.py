"""The scikit-learn estimator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from learners import LABELS, make, pictures
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from hf_free.errors import LearnerError
from hf_free.learner.estimator import FewShotEstimator


@parametrize_with_checks([FewShotEstimator()])
def test_it_is_an_estimator_as_scikit_learn_has_them(estimator, check):
    check(estimator)


@pytest.mark.parametrize("labels", [LABELS, [3, 1, 3, 2, 3, 1]])
def test_with_a_learner_it_is_the_adapted_classifier(labels):
    learner = make(head="ridge")
    estimator, classifier = FewShotEstimator(learner).fit(pictures(), labels), learner.adapt(pictures(), labels)
    queries = pictures(5, 20, seed=4)
    assert estimator.classes_.tolist() == classifier.classes
    np.testing.assert_array_equal(estimator.predict_proba(queries), classifier.predict_proba(queries).double().numpy())
    assert estimator.predict(queries).tolist() == classifier.predict(queries)


def test_rows_that_come_later_are_learned_as_those_of_before():
    for learner, rows in ((make(), pictures()), (None, np.random.default_rng(0).normal(size=(6, 4)))):
        at_once = FewShotEstimator(learner).fit(rows, LABELS)
        later = FewShotEstimator(learner).partial_fit(rows[:4], LABELS[:4])
        later.partial_fit(rows[4:], LABELS[4:])
        np.testing.assert_array_equal(later.predict_proba(rows), at_once.predict_proba(rows))


def test_it_stands_in_scikit_learns_own_loops():
    torch.manual_seed(0)
    features = np.eye(3)[np.repeat([0, 1, 2], 6)] + 0.1 * np.random.default_rng(0).normal(size=(18, 3))
    assert cross_val_score(FewShotEstimator(), features, np.repeat(["a", "b", "c"], 6), cv=3).mean() == 1


@pytest.mark.parametrize("given", [None, 5, "folder"])
def test_what_is_no_list_of_pictures_is_refused_as_scikit_learn_does(given):
    with pytest.raises(ValueError, match="a learner takes a list or an array of pictures"):
        FewShotEstimator(make()).fit(given, [0, 1])


def test_a_head_that_is_no_name_is_refused():
    with pytest.raises(LearnerError, match=r"unknown head \[\]"):
        FewShotEstimator(head=[]).fit([[0.0, 1.0], [1.0, 0.0]], [0, 1])
