"""What a run logs, and when."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

from hf_free.config.tree import FreeConfig
from hf_free.training.state import RunState

FIRST_LINES = 10
"""Steps at a run's beginning that have a line each."""


def is_logged(step: int, config: FreeConfig) -> bool:
    """Whether a step has a line in the log; each of the first few has, for the curves of short runs."""
    return step <= FIRST_LINES or step % config.trainer.log_every == 0


def log_row(state: RunState, memory: Sized, terms: dict[str, float]) -> dict[str, Any]:
    """A line of the log."""
    row = {"step": state.step, "minutes": round(state.seconds / 60, 3), "memory": len(memory)}
    return row | {name: round(value, 6) for name, value in terms.items()}
