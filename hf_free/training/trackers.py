"""What a run logs, and when: log.jsonl first, then the same for trackers, in groups."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sized

from hf_free.provenance.reading import Json
from hf_free.runtime.distributed import ALONE, Ranks
from hf_free.runtime.tracking import Scalar
from hf_free.training.state import RunState

LogRow = dict[str, float]
"""A line of the log: step, minutes, pictures held, and a step's terms by name."""

FIRST_LINES = 10
"""Steps at a run's beginning that have a line each."""

_GROUPS = {
    "minutes": "throughput/minutes",
    "memory": "memory/pictures",
    "gradient_cosine": "alignment/gradient_cosine",
    "replay_accuracy": "accuracy/replay",
    "replay_updates": "throughput/replay_updates",
    "teachers_met": "throughput/teachers_met",
    "dispersion": "alignment/dispersion",
    "made_harder": "curriculum/made_harder",
}
"""Groups in which trackers show terms of the log; the others are losses, or the health of recovered tasks."""


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


def tracked(row: Mapping[str, float], state: RunState) -> dict[str, float]:
    """A line of the log as trackers show it, with how fast the run is."""
    shown = {_GROUPS.get(name, f"loss/{name}"): value for name, value in row.items() if name != "step"}
    if state.seconds > 0:
        shown["throughput/recovered_images_per_second"] = state.pictures / state.seconds
        shown["throughput/steps_per_minute"] = 60 * state.step / state.seconds
    return shown


def tracked_score(state: RunState) -> dict[str, float]:
    """The learner's last score, on held-out recovered tasks or a validation set; nothing where there is none."""
    return {"accuracy/held_out": state.last_score} if math.isfinite(state.last_score) else {}


def tracked_settings(config: Json) -> dict[str, Scalar]:
    """A configuration as the flat table that trackers take; lists and None become texts."""
    flat: dict[str, Scalar] = {}
    for section, value in config.items():
        entries = {f"{section}.{key}": inner for key, inner in value.items()} if isinstance(value, dict) else {}
        for key, inner in (entries or {section: value}).items():
            flat[key] = inner if isinstance(inner, (float, int, str, bool)) else str(inner)
    return flat
