"""How a run treats teachers that only answer: whether it may have them, which are inverted, what was asked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress

from hf_free.config.sections import BellConfig
from hf_free.errors import ConfigError
from hf_free.inversion.base import Inverter, TaskSize
from hf_free.provenance.reading import JsonView, number_of
from hf_free.runtime.text import listed
from hf_free.teachers.pool import TeacherPool
from hf_free.training.folder import RunFolder
from hf_free.training.log_reading import read_rows
from hf_free.training.workload import Workload


def needs_gradients(inverter: Inverter) -> bool:
    """Whether a way to invert needs a teacher's gradients; it does unless it says otherwise."""
    return bool(getattr(inverter, "needs_gradients", True))


def invertible(pool: TeacherPool, inverter: Inverter) -> list[bool]:
    """For each teacher, whether this inverter can invert it: black boxes give no gradients."""
    takes_all = not needs_gradients(inverter)
    return [takes_all or not record.answers_only for record in pool.records]


def check_black_boxes(pool: TeacherPool, inverter: Inverter, bell: BellConfig, *, method: str) -> None:
    """Refuse black boxes where nothing could be learned from them, before anything is written.

    Raises:
        ConfigError: with their names: a method that learns from pictures recovered by gradients alone.
    """
    names = [pool.records[place].reference for place in pool.black_boxes]
    if not names:
        return
    if bell.objective != "distill" and needs_gradients(inverter):
        raise ConfigError(
            f"{listed(names)} only answer{'s' if len(names) == 1 else ''}, and --method {method} inverts every "
            "teacher by its gradients",
            allowed="teachers whose weights are available",
            action="--method default asks black boxes about drawn pictures; --method bidf-mkd inverts them by queries",
        )


def query_terms(pool: TeacherPool) -> dict[str, float]:
    """Queries spent and left, for a step's line in the log; nothing where there is no black box."""
    if not pool.black_boxes:
        return {}
    budget = pool.endpoints.budget
    left = budget.left
    return {"queries": float(budget.spent), **({} if left is None else {"queries_left": float(left)})}


def queries_until(state: JsonView, *folders: RunFolder) -> int:
    """What a run had asked its black boxes before, as far as its checkpoint and its logs know.

    Args:
        state: The checkpoint's, as its file has it.
        folders: The run's, and the checkpoint's copy of its files.
    """
    rows = list[Mapping[str, float]]()
    for folder in folders:
        with suppress(OSError):  # that it cannot be read, or is damaged, is said when the run reads it
            rows += read_rows(folder.log)[0]
    told = [state.get("queries"), *(row.get("queries") for row in rows)]
    numbers = [number for number in map(number_of, told) if number is not None and math.isfinite(number)]
    return max([0, *map(int, numbers)])


def notes_on_black_boxes(pool: TeacherPool, inverter: Inverter, work: Workload) -> list[str]:
    """What to know before a run with black boxes begins.

    Args:
        pool: The teachers.
        inverter: How they are inverted.
        work: What the run does.
    """
    names = [pool.records[place].reference for place in pool.black_boxes]
    if not names:
        return []
    can = [record for record, is_in in zip(pool.records, invertible(pool, inverter), strict=True) if is_in]
    sizes = [TaskSize.of(work.five, record.num_classes).images for record in can]
    recovered = sum(sizes) / max(len(sizes), 1) * min(work.five.teachers_per_step, len(sizes))
    left, asked = pool.endpoints.budget.left, (recovered + work.memory.drawn_per_step) * work.share_asked(len(pool))
    budget = "no --query-budget is set" if left is None else f"{left:,} queries are left"
    return [
        f"black boxes: {listed(names)}; a step that makes pictures asks each about {asked:,.0f} of them, {budget}"
        if work.distills
        else f"black boxes: {listed(names)}; {budget}"
    ]
