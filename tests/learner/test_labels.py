"""Labels of any values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hf_free.errors import LearnerError
from hf_free.learner.labels import check_several, classes_of, plain_labels


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["a", np.str_("b")], ["a", "b"]),
        (torch.tensor([2, 0]), [2, 0]),
        (np.array([True, False]), [True, False]),
        ([torch.tensor(3), np.int64(1)], [3, 1]),
    ],
)
def test_labels_become_plain_values(given, expected):
    found = plain_labels(given, 2)
    assert found == expected
    assert [type(value) for value in found] == [type(value) for value in expected]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("ab", "the labels are one text"),
        (["a"], "2 support pictures and 1 labels"),
        (["a", None], "a picture has no label"),
        (["a", float("nan")], "a picture has no label"),
        (["a", 1.5], "label 1.5 of type float"),
    ],
)
def test_what_is_no_label_is_refused(given, message):
    with pytest.raises(LearnerError, match=message):
        plain_labels(given, 2)


def test_the_order_of_classes_does_not_depend_on_that_of_pictures():
    assert classes_of(["b", 10, "a", 9, "b"]) == classes_of([9, "a", "b", 10]) == [9, 10, "a", "b"]
    with pytest.raises(LearnerError, match="types bool and int"):
        classes_of([True, 1])


def test_one_class_is_too_few():
    with pytest.raises(LearnerError, match="all 3 support pictures have the label 'a'"):
        check_several(["a"], 3)
