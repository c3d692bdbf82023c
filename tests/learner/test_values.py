"""Rules of single values, and the refusal."""

from __future__ import annotations

import pytest

from hf_free.errors import LearnerError
from hf_free.learner.values import demand, is_list_of, real, whole


@pytest.mark.parametrize(
    ("value", "is_whole", "is_real"),
    [(1, True, True), (5, True, True), (0, False, False), (6, False, False), (1.0, False, True), (True, False, False)],
)
def test_numbers_in_a_range(value, is_whole, is_real):
    assert whole(1, 5)(value) is is_whole
    assert real(1, 5)(value) is is_real


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "2", None, [2], 10**400])
def test_no_other_value_is_a_number_in_a_range(value):
    assert not whole(1, 5)(value)
    assert not real(1, 5)(value)


def test_lists_hold_what_keeps_the_rule():
    assert is_list_of([1, 2], whole(1, 2))
    assert is_list_of((), whole(1, 2))
    assert not is_list_of([1, 3], whole(1, 2))
    assert not is_list_of("12", whole(1, 2))
    assert not is_list_of([1] * 1_000_001, whole(1, 2))


def test_a_refusal_names_key_value_and_rule_and_cuts_long_values():
    demand(True, "org/name", "key", "value", "rule")
    with pytest.raises(LearnerError, match=r"org/name: key of config.json is 'value'[\s\S]*a rule"):
        demand(False, "org/name", "key", "value", "a rule")
