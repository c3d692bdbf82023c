"""One mapping laid over another."""

from __future__ import annotations

from hf_free.config.reading import merge


def test_the_second_wins_key_by_key_and_lists_are_replaced_whole():
    base = {"a": {"x": 1, "y": {"z": 2}}, "list": [1, 2], "same": 0}
    over = {"a": {"y": {"w": 3}}, "list": [3], "new": None}
    assert merge(base, over) == {"a": {"x": 1, "y": {"z": 2, "w": 3}}, "list": [3], "same": 0, "new": None}
    assert base == {"a": {"x": 1, "y": {"z": 2}}, "list": [1, 2], "same": 0}, "what is given is left alone"


def test_a_mapping_and_a_value_replace_each_other():
    assert merge({"a": {"x": 1}}, {"a": None}) == {"a": None}
    assert merge({"a": 1}, {"a": {"x": 1}}) == {"a": {"x": 1}}
    assert merge({}, {"a": {"x": 1}}) == {"a": {"x": 1}} == merge({"a": {"x": 1}}, {})
