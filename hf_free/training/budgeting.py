"""A run's memory and time before it begins: a budget, a trial of its parts, portions that fit, and a forecast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from hf_free.data.logits import LogitLayout
from hf_free.errors import RunError
from hf_free.inversion.base import Inverter, TaskSize
from hf_free.memory.logit_table import row_bytes
from hf_free.metalearning.base import Objective
from hf_free.runtime.allocator import give_back_memory
from hf_free.runtime.device import Precision
from hf_free.runtime.memory_budget import SHARE_OF_FREE, free_memory, resident_memory
from hf_free.runtime.processes import available_cores
from hf_free.runtime.side_by_side import workers_for
from hf_free.runtime.text import parse_bytes, size_text
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.soft_labels import ASKED_AT_ONCE
from hf_free.training.portions import Forecast, Portions, choose_portions, few_steps, forecast, is_refusable
from hf_free.training.trial import Trial, try_parts
from hf_free.training.workload import Workload

TRIAL_SECONDS, TRIAL_SHARE = 20.0, 0.08
"""What the trial may take, about, and which share of a run's minutes."""

SURE = 3.0
"""A trial is cut short where the run would be refused even if all took so many times less than what was seen by then:
a part's first pictures take longer than those after them, and a busy machine may be free again."""

FIGURES = 150 * 10**6
"""What drawing the figures adds to the process, most of it scikit-learn's for t-SNE: 148 MB measured. It comes on top
of what the work took, since freed memory is kept (`hf_free.runtime.allocator`)."""


@dataclass(frozen=True)
class Budget:
    """How a run is cut, and what it will take."""

    memory: int
    """Bytes that it may take."""
    portions: Portions
    forecast: Forecast
    notes: tuple[str, ...]
    """What is cut, and that its minutes are enough for few steps only."""


def make_budget(
    work: Workload,
    inverter: Inverter,
    pool: TeacherPool,
    layout: LogitLayout,
    objective: Objective,
    precision: Precision,
    *,
    timed: bool = True,
    refuse: bool = True,
    sharers: int = 1,
    forecast_for: int = 1,
) -> Budget:
    """Measure a run's parts, and cut it for its memory.

    Args:
        work: What the run does.
        inverter: See `hf_free.training.trial.try_parts`, as for the others.
        pool: The teachers.
        layout: Which of their answers are wanted.
        objective: How the learner learns.
        precision: How everything computes.
        timed: Whether time is measured too; it is taken for 0 otherwise.
        refuse: Whether a run of too few steps is an error; else a note says that it would be.
        sharers: Processes of the run that share this machine's free memory.
        forecast_for: Processes of the run that is planned, of which this one, alone, measures the first's share.

    Raises:
        ConfigError: `trainer.memory` is not an amount of memory.
        RunError: not even the least portions fit, or the minutes are enough for fewer steps than
            `trainer.min_steps`.
    """
    device, minutes = inverter.device, work.trainer.max_minutes
    total, held = memory_limit(work.trainer.memory, device, sharers=sharers), _held(device)
    base = held + _unloaded(pool, forecast_for) + (FIGURES if device.type == "cpu" else 0)
    room = float(total - base)
    apart = SHARE_OF_FREE * free_memory(torch.device("cpu")) / sharers if device.type == "cuda" else None
    seconds = TRIAL_SECONDS if minutes is None else min(TRIAL_SECONDS, TRIAL_SHARE * 60 * minutes)
    answers = row_bytes(layout.sizes, work.memory.teachers_per_image) if objective.asks_teachers else 0
    crowding = max(1.0, forecast_for / available_cores()) if device.type == "cpu" else 1.0

    at_once = inversions_at_once(work, inverter, objective, max(pool.chains.count, forecast_for))

    def predict(tried: Trial) -> tuple[Portions, Forecast]:
        cut = choose_portions(work, pool.records, tried, answers=answers, room=room, apart=apart, at_once=at_once)
        return cut, forecast(work, pool.records, tried, cut, answers=answers, base=base, processes=forecast_for)

    def is_hopeless(so_far: Trial) -> bool:
        try:
            return is_refusable(work, predict(so_far.slowed(crowding / SURE))[1])
        except RunError:  # too little memory, as the first sizes show it: the others say so better
            return False

    trial = try_parts(
        work,
        inverter,
        pool,
        objective,
        precision,
        room=max(room, 0.0),
        seconds=seconds,
        timed=timed,
        is_hopeless=is_hopeless if timed else (lambda so_far: False),
    ).slowed(crowding)
    give_back_memory()
    portions, predicted = predict(trial)
    notes = notes_on_portions(work, pool, portions, total)
    few = few_steps(work, pool.records, trial, portions, predicted, processes=forecast_for) if timed else None
    if few is not None and few.is_refused and refuse:
        raise few.refusal()
    return Budget(total, portions, predicted, (*notes, *([few.note()] if few is not None else [])))


def inversions_at_once(work: Workload, inverter: Inverter, objective: Objective, chains: int) -> int:
    """Teachers that a process inverts at once, where there is room for them: as many as it computes with threads."""
    if not (inverter.inverts_beside and objective.answers_beside) or work.trainer.compile:
        return 1
    return workers_for(-(-work.five.teachers_per_step // chains))


def _unloaded(pool: TeacherPool, processes: int) -> int:
    """Bytes of weights that the process will hold beside those it holds; of one among several, less than nothing."""
    own = [record for index, record in enumerate(pool.records) if pool.is_own(index, pool.chains)]
    if processes > 1:
        own = list(pool.records[::processes])
        return min(sum(record.weight_bytes for record in own), pool.budget) - pool.loaded_bytes
    return max(0, min(sum(record.weight_bytes for record in own), pool.budget) - pool.loaded_bytes)


def least_budget(budgets: Sequence[Budget]) -> Budget:
    """What fits into every process of a run: the first one's budget, with the least of all portions."""
    portions = Portions.least([budget.portions for budget in budgets])
    notes = dict.fromkeys(note for budget in budgets for note in budget.notes)
    return replace(budgets[0], portions=portions, notes=tuple(notes))


def memory_limit(given: str | None, device: torch.device, *, sharers: int = 1) -> int:
    """Bytes that the process may hold (on a GPU: of the device's memory), what it holds already included.

    Args:
        given: What `trainer.memory` says; None takes a share of what is free.
        device: Where the run computes.
        sharers: Processes that share what is free; each of several GPUs is one's own.

    Raises:
        ConfigError: that is not an amount of memory.
    """
    if given is not None:
        return parse_bytes(given, flag="--memory")
    return _held(device) + round(SHARE_OF_FREE * free_memory(device) / (sharers if device.type == "cpu" else 1))


def _held(device: torch.device) -> int:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else resident_memory()


def notes_on_portions(work: Workload, pool: TeacherPool, portions: Portions, total: int) -> list[str]:
    """What is done in other numbers than the configuration's, so that it fits into memory."""
    cuts = []
    if portions.task is not None:
        sizes = [TaskSize.of(work.five, record.num_classes) for record in pool.records]
        full = max(sizes, key=lambda size: size.images)
        cut = full.within(portions.task)
        cuts.append(
            f"{cut.classes} classes x {cut.images_per_class} images an inversion at most, in place of "
            f"{full.classes} x {full.images_per_class}"
        )
    if portions.learned is not None:
        cuts.append(f"a batch of {work.bell.batch_size} learned in parts of {portions.learned}")
    if portions.asked < ASKED_AT_ONCE:
        cuts.append(f"teachers asked about {portions.asked} images at once")
    if portions.memory < work.memory.max_images:
        cuts.append(f"{portions.memory:,} images held, not {work.memory.max_images:,}")
    if portions.held_out < work.memory.held_out_images:
        cuts.append(f"{portions.held_out} images kept aside at most, not {work.memory.held_out_images}")
    return [f"to fit into {size_text(total)} and its minutes: {'; '.join(cuts)}"] if cuts else []
