"""How many chains a run has: chosen, kept when it is resumed, refused where there is not enough for each."""

from __future__ import annotations

import logging

import pytest

from hf_free.config.recipes import Defects
from hf_free.config.sections import BellConfig, FiveConfig
from hf_free.errors import ConfigError, RunError
from hf_free.training.sharing import Division, check_chains, check_chains_of_teachers, number_of_chains


@pytest.mark.parametrize(
    ("wanted", "processes", "begun", "expected", "says"),
    [
        (None, 1, None, 1, ""),
        (None, 2, None, 2, ""),
        (4, 2, None, 4, ""),
        (None, 2, Division(2, 2), 2, ""),
        (None, 1, Division(2, 2), 2, "the same 2 chain(s)"),
        (None, 2, Division(1, 1), 2, "with 1 chain(s) of work and goes on with 2"),
        (None, 3, Division(2, 2), 3, "goes on with 3: other random numbers"),
        (None, 2, Division(4, 4), 4, "begun with 4 process(es) and goes on with 2"),
        (1, 1, Division(2, 2), 1, "goes on with 1: other random numbers"),
    ],
)
def test_a_resumed_run_keeps_its_chains_where_it_can_and_says_so_once(
    caplog, wanted, processes, begun, expected, says
):
    with caplog.at_level(logging.WARNING):
        assert number_of_chains(wanted, processes, begun) == expected
    assert len(caplog.messages) == bool(says)
    assert says in caplog.text


def test_a_checkpoint_from_before_chains_had_one():
    assert Division.of({"step": 3}) == Division.of(None) == Division(1, 1)
    assert Division.of({"chains": 2, "processes": 1}) == Division(2, 1)


@pytest.mark.parametrize(
    ("five", "bell", "defects", "named"),
    [
        ({"teachers_per_step": 1}, {}, (), "five.teachers_per_step is 1"),
        ({}, {"batch_size": 3}, (), "bell.batch_size is 3"),
        ({}, {"objective": "align", "replay_tasks": 1}, (), "bell.replay_tasks is 1"),
        ({}, {}, ("student_keeps_replay_weights",), "student_keeps_replay_weights"),
    ],
)
def test_chains_without_work_are_refused(five, bell, defects, named):
    check_chains(FiveConfig(**five), BellConfig(**bell), Defects.named(defects), 1)
    check_chains(FiveConfig(), BellConfig(), Defects(), 2)
    with pytest.raises(ConfigError, match=named):
        check_chains(FiveConfig(**five), BellConfig(**bell), Defects.named(defects), 2)


def test_more_chains_than_teachers_are_refused():
    check_chains_of_teachers(3, 3)
    with pytest.raises(RunError, match="4 chains of work for 3 teachers"):
        check_chains_of_teachers(4, 3)
