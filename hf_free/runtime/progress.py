"""A bar, or one line per minute.

On a terminal and in a notebook that is a bar. A file, a pipe or a service's log cannot be redrawn: there it is one
line per minute. In a notebook the bar is a widget, of which a saved file keeps nothing: the last state follows it as
text.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console as Console


LINE_SECONDS = 60.0
"""Seconds between two lines where no bar can be drawn; shorter work writes none."""


SPEED_SECONDS = 3600.0
"""Seconds from which the time left is estimated. Rich's own 30 know no speed of steps that take longer than that."""


class BarOrLines(Progress):
    """Columns as a bar, or as a line every `LINE_SECONDS` seconds where nothing can be redrawn.

    Args:
        columns: What is shown; lines leave out a `BarColumn`.
        console: Where to; None shows nothing.
        transient: Remove the bar at the end, and write no last line.
    """

    def __init__(
        self, *columns: ProgressColumn, console: Console | None, transient: bool = False, **options: Any
    ) -> None:
        draws = console is not None and (console.is_terminal or console.is_jupyter)
        super().__init__(
            *columns,
            console=console,
            transient=transient,
            disable=not draws,
            speed_estimate_period=SPEED_SECONDS,
            **options,
        )
        self._writes_lines = console is not None and not draws
        self._last_line = not transient and (self._writes_lines or (console is not None and console.is_jupyter))
        self._written_at = self.get_time()
        self._has_news = False

    def update(self, task_id: TaskID, **changes: Any) -> None:  # type: ignore[override]
        """Take note of a state, and write a line if it is time for one."""
        with contextlib.suppress(OSError):  # of a terminal that was closed: the run still has a checkpoint to write
            super().update(task_id, **changes)
        self._has_news = True
        if self._writes_lines and self.get_time() - self._written_at >= LINE_SECONDS:
            self._write_line()

    def stop(self) -> None:
        """End the bar; write the last state where no bar stays to be read."""
        with contextlib.suppress(OSError):
            super().stop()
        if self._last_line and self._has_news:
            self._write_line()

    def line_of(self, task: Task) -> str:
        """The text of a line about a task."""
        shown = (column(task) for column in self.columns if isinstance(column, ProgressColumn))
        return " ".join(text.plain for text in shown if isinstance(text, Text) and text.plain)

    def _write_line(self) -> None:
        self._written_at, self._has_news = self.get_time(), False
        for task in self.tasks:
            with contextlib.suppress(OSError):
                self.console.print(Text(self.line_of(task)), soft_wrap=True)


@contextlib.contextmanager
def counting_bar(console: Console | None) -> Iterator[Callable[[str, int, int], None]]:
    """A bar, or lines, for work of which it is known how much there is.

    Args:
        console: Where to; None shows nothing.

    Yields:
        A function that takes what is being done, how much of it is done, and how much there is.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with BarOrLines(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)

        def show(what: str, done: int, total: int) -> None:
            if what != bar.tasks[0].description:  # other work, with a speed of its own
                bar.reset(task)
            bar.update(task, description=what, completed=done, total=total)

        yield show
