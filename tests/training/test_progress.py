"""Progress of a run: where it is shown, and what."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from hf_free.config.sections import INVERSION_TERMS
from hf_free.training.progress import MEASURES, RunProgress, console_for


@pytest.mark.parametrize(
    ("progress", "is_terminal", "shows"),
    [(None, True, True), (None, False, False), (True, False, True), (False, True, False)],
)
def test_progress_shows_by_default_where_somebody_looks(monkeypatch, progress, is_terminal, shows):
    monkeypatch.setattr(Console, "is_terminal", is_terminal)
    assert (console_for(progress, None) is not None) is shows
    monkeypatch.setattr(Console, "is_terminal", False)
    given = Console(file=io.StringIO())
    assert (console_for(progress, given) is given) is (progress is not False)


def test_progress_shows_in_a_notebook(monkeypatch):
    monkeypatch.setattr(Console, "is_terminal", False)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert console_for(None, None).is_jupyter


def _shown(total_steps, *updates, width=160):
    """What stands on the terminal at the end."""
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    with RunProgress(console, total_steps=total_steps) as progress:
        for update in updates:
            progress.show(*update)
    return console.file.getvalue().rpartition("step ")[2]


def test_progress_shows_all_on_a_narrow_terminal():
    terms = dict.fromkeys(INVERSION_TERMS, 0.12345)
    last = _shown(1000, (999, 0.999, terms, 12345.6), width=80)
    assert "12346 recovered images/s" in last
    for name in terms:
        assert f"{MEASURES[name].name} 0.123" in last


def test_the_last_line_of_a_run_in_a_file_says_steps_time_and_terms():
    console = Console(file=io.StringIO(), width=40)
    with RunProgress(console, total_steps=40) as progress:
        progress.show(1, 0.025, {"answers": 9.0}, 1.0)
        progress.show(10, 0.25, {"answers": 0.51234, "cross_entropy": 2.0}, 123.4)
    (line,) = console.file.getvalue().splitlines()
    assert line.startswith("step 10/40  25% 0:00:00 left ")
    assert line.endswith("/s  unexplained variance 0.512 (lower is better)  cross-entropy 2 nats (lower is better)")


def test_no_console_shows_nothing(capsys):
    with RunProgress(None, total_steps=3) as progress:
        progress.show(1, 0.3, {"a": 1.0}, 2.0)
    assert capsys.readouterr().out == ""


def test_the_health_of_recovered_pictures_is_shown_in_words_with_its_direction():
    last = _shown(10, (9, 0.9, {"teacher_accuracy": 0.9, "diversity": 0.2}, 1.0), width=200)
    assert "recognized by their teacher 0.9 (higher is better)" in last
    assert "diversity within classes 0.2 (higher is better)" in last
