"""What a classifier was shown: in one order, however it came."""

from __future__ import annotations

import pytest
import torch

from hf_free.errors import LearnerError
from hf_free.learner.support import SupportSet

ROWS = torch.rand(6, 4, generator=torch.Generator().manual_seed(0))
NAMES = ["b", "a", "b", "c", "a", "c"]


def same(first: SupportSet, second: SupportSet) -> bool:
    return (
        first.classes == second.classes
        and torch.equal(first.labels, second.labels)
        and torch.equal(first.rows, second.rows)
    )


def test_rows_keep_their_labels_and_their_order_is_that_of_their_content():
    support = SupportSet.of(ROWS, NAMES)
    assert support.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert {(name, *row) for name, row in zip(support.names, support.rows.tolist(), strict=True)} == {
        (name, *row) for name, row in zip(NAMES, ROWS.tolist(), strict=True)
    }
    assert same(support, SupportSet.of(ROWS.flip(0), NAMES[::-1]))
    assert support.counts == {"a": 2, "b": 2, "c": 2}


def test_adding_and_taking_away_give_what_was_there():
    support = SupportSet.of(ROWS, NAMES)
    more = support.with_rows(torch.rand(3, 4), "d")
    assert more.counts["d"] == 3
    assert same(more.without("d"), support)
    assert same(SupportSet.of(ROWS[:5], NAMES[:5]).with_rows(ROWS[5:], "c"), support)


def test_two_classes_stay():
    with pytest.raises(LearnerError, match="without 'a' the classifier would have one class"):
        SupportSet.of(ROWS[:2], NAMES[:2]).without("a")
