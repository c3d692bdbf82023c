"""What a long run shows: steps, losses, recovered images a second, time left."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from rich.console import Console


class RunProgress:
    """A progress bar over a run of steps or minutes.

    Args:
        console: Where to draw; None draws nothing.
        total_steps: Steps of the run, None where only the clock ends it.
    """

    def __init__(self, console: Console | None, *, total_steps: int | None) -> None:
        self._of = f"/{total_steps}" if total_steps else ""
        self._bar = Progress(
            TextColumn("step {task.fields[step]}"),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[terms]}", style="dim"),
            console=console,
            disable=console is None,
        )
        self._task = self._bar.add_task("training", total=1.0, step=f"0{self._of}", terms="")

    def __enter__(self) -> RunProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, step: int, progress: float, terms: Mapping[str, float], images_per_second: float) -> None:
        """Draw the state after a step."""
        text = "  ".join(f"{name} {value:.3g}" for name, value in terms.items())
        text = f"{images_per_second:.0f} recovered images/s  {text}"
        self._bar.update(self._task, completed=progress, step=f"{step}{self._of}", terms=text)
