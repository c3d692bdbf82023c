"""What a run logs, and when."""

from __future__ import annotations

from collections.abc import Sized

from hf_free.runtime.distributed import ALONE, Ranks
from hf_free.training.state import RunState

LogRow = dict[str, float]
"""A line of the log: step, minutes, pictures held, and a step's terms by name."""

FIRST_LINES = 10
"""Steps at a run's beginning that have a line each."""


def is_logged(step: int, every: int) -> bool:
    """Whether a step has a line in the log; each of the first few has, for the curves of short runs."""
    return step <= FIRST_LINES or step % every == 0


def log_row(state: RunState, memory: Sized, terms: dict[str, float], *, ranks: Ranks = ALONE) -> LogRow:
    """A line of the log; of several processes, with the seconds that the first has spent on the others so far."""
    row: LogRow = {}
    if ranks.count > 1:
        row["communication"] = round(ranks.seconds, 3)
    row |= {"step": state.step, "minutes": round(state.seconds / 60, 3), "memory": len(memory)}
    return row | {name: round(value, 6) for name, value in terms.items()}
