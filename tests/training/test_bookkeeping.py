"""What happens between two steps: written by the first process alone, at the steps that the configuration names."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from pico import pico_teacher
from replacing import replace_everywhere
from runs import TINY

from hf_free.config.reading import merge
from hf_free.config.tree import FreeConfig
from hf_free.runtime.interrupts import StopBetweenSteps
from hf_free.teachers.pool import TeacherPool
from hf_free.training import bookkeeping
from hf_free.training.folder import RunFolder
from hf_free.training.selection import Selector
from hf_free.training.setup import prepare


@pytest.fixture
def run(tmp_path):
    teachers = [pico_teacher("conv4", size=16, num_classes=3, seed=seed) for seed in range(2)]
    values = {"trainer": {"log_every": 20, "picture_every": 15, "checkpoint_every": 12, "steps": 30}}
    run = prepare(
        FreeConfig.from_dict(merge(TINY, values)),
        RunFolder(tmp_path / "run"),
        pool=TeacherPool.from_teachers(teachers),
    )
    return run


@pytest.fixture
def noted(run, monkeypatch):
    """The steps at which pictures are drawn and the learner is scored, in place of doing so."""
    drawn, scored = [], []
    replace_everywhere(
        monkeypatch, "hf_free.reporting.recovered.draw_pictures", lambda *_: drawn.append(run.state.step)
    )
    monkeypatch.setattr(bookkeeping.selection, "keep_best", lambda *_, writes: scored.append((run.state.step, writes)))
    return SimpleNamespace(drawn=drawn, scored=scored)


def _go(run, steps):
    for run.state.step in steps:
        bookkeeping.report(run, {"answers": 0.5})


def test_each_thing_at_its_own_steps(run, noted):
    _go(run, range(1, 31))
    logged = [int(row["step"]) for row in run.folder.read_log()]
    assert logged == [*range(1, 11), 20, 30]  # the first ten, every 20th, the last
    assert noted.drawn == [15, 30]
    assert noted.scored == [(12, True), (24, True)]


def test_another_process_scores_and_writes_nothing(run, noted):
    run.chains = _second()
    _go(run, range(1, 31))
    bookkeeping.save(run)
    assert run.folder.read_log() == []
    assert noted.drawn == []
    assert noted.scored == [(12, False), (24, False)]
    assert not run.folder.checkpoints.root.exists()


FIRST = (1e9, True, 15)
"""What the first of two processes says: its time, and that it was asked to stop."""


def _second():
    """The second of two processes; the first has used more time, and was asked to stop."""
    ranks = SimpleNamespace(
        is_first=False, count=2, seconds=0.0, talks=[], gather=lambda value: ranks.talks.append(1) or [FIRST, value]
    )
    return SimpleNamespace(ranks=ranks)


def test_processes_agree_on_the_time_and_on_a_wish_to_stop(run):
    stop = StopBetweenSteps(run.folder, inside=False)
    run.chains = _second()
    bookkeeping.agree(run, stop)
    assert (stop.wanted, stop.number) == (True, 15)
    assert run.clock.seconds() == 1e9
    assert len(run.chains.ranks.talks) == 1


def test_the_best_weights_are_taken_back(run):
    run.state.step = 5
    weight = next(run.learner.backbone.parameters())
    best = weight.detach().clone()
    scores = iter([-0.2, -0.9])
    run.selector = Selector(lambda: next(scores), lambda: "a list")
    bookkeeping.judge(run)
    with torch.no_grad():
        weight.add_(1)
    bookkeeping.take_best(run)
    assert torch.equal(next(run.learner.backbone.parameters()), best)
