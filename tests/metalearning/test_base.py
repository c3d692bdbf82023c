"""Where in a run a step is: by itself it has ample time and is logged nowhere."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace

import pytest

from hf_free.metalearning.base import BY_ITSELF, Moment, Objective
from hf_free.methods.registry import METHODS


def test_a_step_by_itself_is_at_full_rate_and_never_over():
    assert Moment() == BY_ITSELF
    assert (BY_ITSELF.rate, BY_ITSELF.is_logged, BY_ITSELF.at_once) == (1.0, False, None)
    assert not BY_ITSELF.is_over()
    assert BY_ITSELF.pause() is None


def test_nothing_is_set_on_a_moment_from_outside():
    with pytest.raises(FrozenInstanceError):
        BY_ITSELF.rate = 0.5
    assert replace(BY_ITSELF, rate=0.5).rate == 0.5
    assert {entry.name for entry in fields(Moment)} == {"rate", "is_logged", "is_over", "pause", "at_once"}


def test_every_method_makes_an_objective_of_this_form():
    wanted = {name for name in vars(Objective) if not name.startswith("_")} - {"learner"}
    for method in METHODS.values():
        hints = method.objective.__annotations__
        assert "Objective" in str(hints["return"]), f"{method.name} says what it makes"
    assert {"step", "score", "student", "rehearsal", "modules", "optimizers", "tensors", "load_tensors"} <= wanted
