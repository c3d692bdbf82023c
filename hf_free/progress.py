"""What a long run shows: steps, losses, recovered images a second, time left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from rich.columns import Columns
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from hf_free.hub.prefetch import Fetched


class FetchProgress:
    """One bar over all downloads: repositories, bytes, and the step a run is at meanwhile.

    Nothing is drawn where all files are in the cache.

    Args:
        console: Where to draw; None draws nothing.
    """

    def __init__(self, console: Console | None) -> None:
        self._bar = Progress(
            TextColumn("fetching teachers {task.fields[count]}"),
            BarColumn(bar_width=20),
            DownloadColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[step]}", style="dim"),
            console=console,
            disable=console is None,
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


class _BarAndTerms(Progress):
    """A bar, and below it the loss terms, which fit beside it on no common terminal."""

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
            disable=console is None,
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
        self._bar.update(self._task, completed=progress, step=f"{step}{self._of}", rate=rate, terms=_written(terms))


def _written(terms: Mapping[str, float]) -> list[str]:
    return [f"{name} {value:.3g}" for name, value in terms.items()]
