"""What long work shows: steps, losses, recovered images a second, time left.

On a terminal and in a notebook that is a bar. A file, a pipe or a service's log cannot be redrawn: there it is a line
a minute.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.columns import Columns
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from hf_free.hub.prefetch import Fetched
    from hf_free.learner.meta_learner import MetaLearner
    from hf_free.teachers.teacher import TeacherRecord

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measure:
    """What a number of the log is called where people read it."""

    name: str
    unit: str = ""
    more_is_better: bool | None = False
    """None: neither direction is better."""


MEASURES = {
    "cross_entropy": Measure("cross-entropy", "nats"),
    "batchnorm": Measure("BatchNorm distance"),
    "borrowed_batchnorm": Measure("borrowed BatchNorm distance"),
    "canvas_distance": Measure("distance to the canvas"),
    "adversarial": Measure("disagreement with the learner, × -1"),
    "total_variation": Measure("total variation"),
    "feature_norm": Measure("feature norm"),
    "diversity": Measure("sameness within a class"),
    "answers": Measure("unexplained variance"),
    "distillation": Measure("distillation loss", "nats"),
    "gradient_cosine": Measure("cosine of gradients", more_is_better=True),
    "replay_accuracy": Measure("accuracy in replay", more_is_better=True),
    "replay_updates": Measure("updates of replay", more_is_better=None),
}
"""The terms that a run's progress shows; others go by their own names."""


EVERY = 60.0
"""Seconds between two lines where no bar can be drawn; shorter work writes none."""


class BarOrLines(Progress):
    """Columns as a bar, or as a line every `EVERY` seconds where nothing can be redrawn.

    Args:
        columns: What is shown; lines leave out a `BarColumn`.
        console: Where to; None shows nothing.
        transient: Remove the bar at the end, and write no last line.
    """

    def __init__(
        self, *columns: ProgressColumn, console: Console | None, transient: bool = False, **options: Any
    ) -> None:
        draws = console is not None and (console.is_terminal or console.is_jupyter)
        super().__init__(*columns, console=console, transient=transient, disable=not draws, **options)
        self._writes_lines = console is not None and not draws
        self._last_line = not transient
        self._written_at = self.get_time()
        self._has_news = False

    def update(self, task_id: TaskID, **changes: Any) -> None:  # type: ignore[override]
        """Take note of a state, and write a line if it is time for one."""
        super().update(task_id, **changes)
        self._has_news = True
        if self._writes_lines and self.get_time() - self._written_at >= EVERY:
            self._write_line()

    def stop(self) -> None:
        """End the bar, or write the last state."""
        super().stop()
        if self._writes_lines and self._last_line and self._has_news:
            self._write_line()

    def line_of(self, task: Task) -> str:
        """What a line says of a task."""
        shown = (column(task) for column in self.columns if isinstance(column, ProgressColumn))
        return " ".join(text.plain for text in shown if isinstance(text, Text) and text.plain)

    def _write_line(self) -> None:
        self._written_at, self._has_news = self.get_time(), False
        for task in self.tasks:
            self.console.print(Text(self.line_of(task)), soft_wrap=True)


class FetchProgress:
    """One bar over all downloads: repositories, bytes, and the step a run is at meanwhile.

    Nothing is drawn where all files are in the cache.

    Args:
        console: Where to draw; None draws nothing.
    """

    def __init__(self, console: Console | None) -> None:
        self._bar = BarOrLines(
            TextColumn("fetching teachers {task.fields[count]}"),
            BarColumn(bar_width=20),
            DownloadColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[step]}", style="dim"),
            console=console,
        )
        self._task = self._bar.add_task("fetching", total=None, count="", step="")
        self._is_drawn = False

    def __enter__(self) -> FetchProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_drawn:
            self._bar.stop()

    def show(self, state: Fetched) -> None:
        """Draw how far the downloads are, from the first byte on; called by one thread at a time."""
        if not state.bytes_total:
            return
        if not self._is_drawn:
            self._is_drawn = True
            self._bar.start()
        count = f"{state.done}/{state.total}"
        self._bar.update(self._task, completed=state.bytes_done, total=state.bytes_total, count=count)

    def show_step(self, step: int, terms: Mapping[str, float]) -> None:
        """Draw a step that was done while files were still under way."""
        self._bar.update(self._task, step=f"warm-up step {step}  {'  '.join(_written(terms))}")


class _BarAndTerms(BarOrLines):
    """A bar, and below it the loss terms, which fit beside it on no common terminal."""

    def line_of(self, task: Task) -> str:
        """The columns, then the terms."""
        return "  ".join([super().line_of(task), *task.fields["terms"]])

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bar, then the terms, on as many lines as they need."""
        yield from super().get_renderables()
        for task in self.tasks:
            if task.fields["terms"]:
                yield Columns([Text(term, style="dim") for term in task.fields["terms"]], padding=(0, 2))


class RunProgress:
    """A progress bar over a run of steps or minutes.

    Args:
        console: Where to draw; None draws nothing.
        total_steps: Steps of the run, None where only the clock ends it.
    """

    def __init__(self, console: Console | None, *, total_steps: int | None) -> None:
        self._total_steps = total_steps
        self._of = f"/{total_steps}" if total_steps else ""
        self._bar = _BarAndTerms(
            TextColumn("step {task.fields[step]}"),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[rate]}"),
            console=console,
        )
        self._task = self._bar.add_task("training", total=1.0, step=f"0{self._of}", terms=[], rate="")

    def __enter__(self) -> RunProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, step: int, progress: float, terms: Mapping[str, float], images_per_second: float) -> None:
        """Draw the state after a step."""
        rate = f"{images_per_second:.0f} recovered images/s"
        time_is_up = progress >= 1 and self._total_steps is not None and step < self._total_steps
        at = f"{step}{self._of}{', time is up' if time_is_up else ''}"
        self._bar.update(self._task, completed=progress, step=at, rate=rate, terms=_written(terms))


def _written(terms: Mapping[str, float]) -> list[str]:
    """Each term with its name, unit and direction."""
    written = []
    for key, value in terms.items():
        measure = MEASURES.get(key, Measure(key, more_is_better=None))
        better = {True: " (higher is better)", False: " (lower is better)", None: ""}[measure.more_is_better]
        unit = f" {measure.unit}" if measure.unit else ""
        written.append(f"{measure.name} {value:.3g}{unit}{better}")
    return written


def console_for(progress: bool | None, console: Console | None) -> Console | None:
    """Where progress is shown.

    Args:
        progress: Whether it is; None shows it on a console that is given, in a terminal and in a notebook.
        console: Where; None takes stderr, or the notebook.

    Returns:
        The console, or None where nothing is to be shown.
    """
    from rich.console import Console

    if progress is False:
        return None
    if console is not None:
        return console
    own = Console(stderr=True, highlight=False)
    return own if progress or own.is_terminal or own.is_jupyter else None


def say_start(console: Console | None, learner: MetaLearner, records: Sequence[TeacherRecord]) -> None:
    """Say what a run begins with: its learner and its teachers, on the console and in the log of the program."""
    size, channels = learner.config.image_size, learner.config.channels
    parameters = sum(parameter.numel() for parameter in learner.backbone.parameters())
    classes = sum(record.num_classes for record in records)
    line = (
        f"Training {learner.config.backbone} ({parameters:,} parameters, pictures of {channels}x{size}x{size}) "
        f"on {len(records)} teacher{'' if len(records) == 1 else 's'} with {classes:,} classes in all"
    )
    logger.info("%s", line)
    if console is not None:
        console.print(Text(line), soft_wrap=True)
