"""One mapping laid over another."""

from __future__ import annotations

import pytest

from hf_free.config.reading import merge, merge_given
from hf_free.errors import ConfigError


def test_the_second_wins_key_by_key_and_lists_are_replaced_whole():
    base = {"a": {"x": 1, "y": {"z": 2}}, "list": [1, 2], "same": 0}
    over = {"a": {"y": {"w": 3}}, "list": [3], "new": None}
    assert merge(base, over) == {"a": {"x": 1, "y": {"z": 2, "w": 3}}, "list": [3], "same": 0, "new": None}
    assert base == {"a": {"x": 1, "y": {"z": 2}}, "list": [1, 2], "same": 0}, "what is given is left alone"


def test_a_mapping_and_a_value_replace_each_other():
    assert merge({"a": {"x": 1}}, {"a": None}) == {"a": None}
    assert merge({"a": 1}, {"a": {"x": 1}}) == {"a": {"x": 1}}
    assert merge({}, {"a": {"x": 1}}) == {"a": {"x": 1}} == merge({"a": {"x": 1}}, {})


def test_nothing_that_is_given_is_lost_without_a_word():
    assert merge_given({"a": {"x": 1}, "b": None}, {"a": {"y": 2}, "b": {"z": 3}}) == {
        "a": {"x": 1, "y": 2},
        "b": {"z": 3},
    }
    assert merge_given({"a": {"x": 1}}, {"a": 2}) == {"a": 2}, "refused afterwards, with the rule"
    with pytest.raises(ConfigError, match=r"a = \[1, 2\], and a.x is given too"):
        merge_given({"a": [1, 2]}, {"a": {"x": 1}})
    with pytest.raises(ConfigError, match=r"learner.model_args = 7, and learner.model_args.depth is given too"):
        merge_given({"learner": {"model_args": 7}}, {"learner": {"model_args": {"depth": 2}}})
