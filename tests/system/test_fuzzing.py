"""A fixed share of the fuzzed inputs; `make fuzz` runs 100,000 of each target."""

from __future__ import annotations

import random

import fuzzing
import pytest
from fuzzing import TARGETS, Target, mutated, run

SHARE = 150


@pytest.mark.parametrize("name", TARGETS)
def test_every_input_ends_in_success_or_one_error_of_ours(name):
    outcome = run(name, SHARE)
    assert not outcome.failures
    assert outcome.accepted + outcome.refused == SHARE
    assert outcome.refused, "an input that nobody refuses shows nothing"


def test_a_raw_error_is_a_failure(monkeypatch):
    monkeypatch.setitem(TARGETS, "raw", Target(lambda: [{"a": 1}], lambda document: document["a"] + 1))
    outcome = run("raw", 50)
    assert outcome.failures
    assert "raw " in outcome.failures[0]


def test_an_input_follows_from_its_number():
    seed = {"a": [1, {"b": "c"}], "d": None}
    first, again = (mutated(seed, random.Random("target 7")) for _ in range(2))
    assert repr(first) == repr(again)
    assert seed == {"a": [1, {"b": "c"}], "d": None}
    assert fuzzing.SLOW > 0
