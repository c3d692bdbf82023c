"""Bars of a run: downloads and steps."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.columns import Columns
from rich.console import Console as Console
from rich.progress import BarColumn, DownloadColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from hf_free.runtime.progress import BarOrLines

if TYPE_CHECKING:
    from rich.console import RenderableType

    from hf_free.hub.prefetch import Fetched
    from hf_free.learner.meta_learner import MetaLearner
    from hf_free.provenance.teacher_record import TeacherRecord
    from hf_free.runtime.chains import Chains
    from hf_free.runtime.device import Precision
    from hf_free.training.checkpoint_store import WholeCheckpoint

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
    "donor_batchnorm": Measure("BatchNorm distance to a donor"),
    "teacher_accuracy": Measure("recognized by their teacher", more_is_better=True),
    "diversity": Measure("diversity within classes", more_is_better=True),
    "canvas_distance": Measure("distance to the canvas"),
    "adversarial": Measure("disagreement with the learner, × -1"),
    "total_variation": Measure("total variation"),
    "feature_norm": Measure("feature norm"),
    "similarity_hinge": Measure("similarity within classes"),
    "answers": Measure("unexplained variance"),
    "distillation": Measure("distillation loss", "nats"),
    "gradient_cosine": Measure("cosine of gradients", more_is_better=True),
    "replay_accuracy": Measure("accuracy in replay", more_is_better=True),
    "replay_updates": Measure("updates of replay", more_is_better=None),
    "queries": Measure("queries spent", more_is_better=None),
    "queries_left": Measure("queries left", more_is_better=None),
    "teachers_met": Measure("teachers inverted before groups", more_is_better=True),
    "task_loss": Measure("loss on new tasks", "nats"),
    "dispersion": Measure("dispersion of gradients", more_is_better=None),
    "made_harder": Measure("pictures made harder", more_is_better=None),
}
"""The terms that a run's progress shows; others go by their own names."""


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
    if progress is False:
        return None
    if console is not None:
        return console
    own = Console(stderr=True, highlight=False)
    return own if progress or own.is_terminal or own.is_jupyter else None


def say_resumed(console: Console | None, chosen: WholeCheckpoint) -> None:
    """Say which checkpoint a run goes on from."""
    say(console, f"Going on from {chosen.folder}, the newest whole checkpoint: step {chosen.manifest.step}")


def say_folder(console: Console | None, folder: Path) -> None:
    """Say where a run is, once its folder is there."""
    say(console, f"Output folder: {folder}")


def say_start(
    console: Console | None,
    learner: MetaLearner,
    records: Sequence[TeacherRecord],
    chains: Chains,
    precision: Precision,
) -> None:
    """Say what a run begins with: its learner, its teachers and its processes, on the console and in the log."""
    size, channels = learner.config.image_size, learner.config.channels
    parameters = sum(parameter.numel() for parameter in learner.backbone.parameters())
    classes = sum(record.num_classes for record in records)
    line = (
        f"Training {learner.config.backbone} ({parameters:,} parameters, pictures of {channels}x{size}x{size}) "
        f"on {len(records)} teacher{'' if len(records) == 1 else 's'} with {classes:,} classes in all"
    )
    say(console, line)
    say(console if chains.count > 1 else None, chains.found(learner.device, precision.name))


def say(console: Console | None, line: str) -> None:
    """Write a line to the log and, where there is one, to the console."""
    logger.info("%s", line)
    if console is not None:
        console.print(Text(line), soft_wrap=True)
