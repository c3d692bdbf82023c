"""What a run remembers between two steps goes through JSON and back."""

from __future__ import annotations

import json
import math

import pytest

from hf_free.training.state import RunState


def test_a_new_state_has_counted_nothing_and_any_score_is_better():
    state = RunState()
    assert (state.step, state.kept_tasks, state.skipped, state.left_out) == (0, 0, [], {})
    assert state.best_score == state.last_score == -math.inf
    assert RunState().skipped is not RunState().skipped


def test_a_state_comes_back_from_json():
    state = RunState(
        step=7, seconds=1.5, best_score=0.25, left_out={"lab/a: dull": 2}, failures={"3": 1}, excluded=[3]
    )
    state.skipped.append({"reference": "lab/a", "reason": "gone"})
    assert RunState.from_dict(json.loads(json.dumps(state.to_dict()))) == state


@pytest.mark.parametrize(
    "change", [{"step": None}, {"seconds": {"a": {}}}, {"left_out": "x"}, {"gone": [None]}, {"best_score": "x"}]
)
def test_a_value_of_another_type_is_refused_by_its_name(change):
    with pytest.raises(TypeError, match=f"{next(iter(change))} is "):
        RunState.from_dict({**RunState().to_dict(), **change})
