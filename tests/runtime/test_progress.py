"""A bar in a terminal, a line a minute in a file."""

from __future__ import annotations

import io
import sys
from types import ModuleType

import pytest
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from hf_free.runtime.progress import BarOrLines, counting_bar


def _lines(bar, *states):
    """What is written to a file by a bar told (second, completed of 40) each."""
    for second, completed in states:
        bar.get_time = lambda second=second: second
        bar.update(bar.task_ids[0], completed=completed, description=f"module-{completed}")
    bar.stop()
    return bar.console.file.getvalue().splitlines()


@pytest.mark.parametrize(("transient", "last"), [(False, ["module-30 30/40"]), (True, [])])
def test_a_file_gets_a_line_a_minute_in_the_place_of_a_bar(transient, last):
    console = Console(file=io.StringIO(), width=20)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    bar = BarOrLines(*columns, console=console, transient=transient, get_time=lambda: 0.0)
    bar.add_task("", total=40)
    seen = _lines(bar, (1, 1), (59, 5), (60, 10), (61, 11), (119, 19), (125, 20), (126, 30))
    assert seen == ["module-10 10/40", "module-20 20/40", *last]


@pytest.mark.parametrize(("transient", "left"), [(False, ["module-30 30/40"]), (True, [])])
def test_a_notebook_keeps_the_last_state_as_text_beside_its_widget(monkeypatch, transient, left):
    kept = []
    display = ModuleType("IPython.display")
    display.display = kept.append
    display.clear_output = lambda **options: None
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    console = Console(force_jupyter=True)
    bar = BarOrLines(TextColumn("{task.description}"), MofNCompleteColumn(), console=console, transient=transient)
    bar.add_task("", total=40)
    for done in (10, 30):
        bar.update(bar.task_ids[0], completed=done, description=f"module-{done}")
    bar.stop()
    texts = [entry._repr_mimebundle_(include=["text/plain"], exclude=[])["text/plain"].strip() for entry in kept]
    assert [text for text in texts if text] == left


def test_the_time_left_is_known_of_steps_that_take_minutes():
    console = Console(file=io.StringIO(), width=40)
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeRemainingColumn())
    bar = BarOrLines(*columns, console=console, transient=True, get_time=lambda: 0.0)
    bar.add_task("", total=40)
    lines = _lines(bar, (100, 1), (200, 2), (300, 3))
    assert lines[-1] == "module-3  3/40 1:01:40", "37 steps of 100 s"


def test_other_work_on_the_same_bar_has_a_speed_of_its_own():
    now = [0.0]
    console = Console(file=io.StringIO(), width=60, get_time=lambda: now[0])
    with counting_bar(console) as show:
        for second, what, done in ((61, "fast", 39), (122, "fast", 40), (183, "slow", 1), (244, "slow", 2)):
            now[0] = second
            show(what, done, 40)
    assert console.file.getvalue().splitlines()[-1] == "slow  2/40 left 0:38:38", "38 steps of 61 s"
