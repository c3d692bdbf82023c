"""What a training run would do, before it does it: teachers, length, cost, what to know. Nothing is trained.

Memory and time are measured: each part of a step is done once or twice with a copy of the learner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from hf_free.config.recipes import Defects
from hf_free.config.sections import LearnerConfig
from hf_free.config.tree import FreeConfig, check_sections
from hf_free.errors import RunError
from hf_free.inversion.learned_pixels import LearnedPixels
from hf_free.inversion.pixels import PixelInverter
from hf_free.learner.meta_learner import MetaLearner
from hf_free.learner.precision import FP32_NOTE, fitting_precision
from hf_free.provenance.teacher_record import TeacherRecord
from hf_free.runtime.device import Precision
from hf_free.runtime.distributed import threads_of_a_rank
from hf_free.runtime.given import check_flags, check_kind, check_texts, whole_number
from hf_free.teachers.endpoints import EndpointAccess
from hf_free.training.black_boxes import notes_on_black_boxes
from hf_free.training.budgeting import Budget
from hf_free.training.estimate import CostEstimate, estimate
from hf_free.training.notices import (
    notes_on_distillation,
    notes_on_pooling,
    notes_on_previous_learner,
    notes_on_run,
    notes_on_teachers,
    notes_on_writing,
)
from hf_free.training.pooled_first import pools_first
from hf_free.training.progress import Console
from hf_free.training.run import Parts
from hf_free.training.setup import assemble, budget_of, gather
from hf_free.training.sharing import check_processes

POOLED_FIRST = (
    "these teachers are pooled first, and one network learns what they say together (trainer.pool_first); "
    "--no-pool-first recovers tasks in steps instead"
)
"""What a plan says of such a run."""


@dataclass(frozen=True)
class TrainingPlan:
    """The answer of `hf-free train --dry-run`."""

    method: str
    teachers: tuple[TeacherRecord, ...]
    """Teachers that loaded and passed every check."""
    skipped: tuple[tuple[str, str], ...]
    """(reference, reason) of those that did not."""
    steps: int | None
    """Outer steps at most."""
    max_minutes: float | None
    """Wall-clock minutes at most."""
    device: str
    mixed_precision: str
    cost: CostEstimate
    total_flops: int | None
    """Cost of all steps, None where only the clock ends the run."""
    peak_memory: int | None
    """Bytes of the process (on a GPU: of the device) at its peak, as measured; None where the run was not measured."""
    step_seconds: float | None
    """A step that recovers tasks and learns, as measured on this machine."""
    predicted_steps: int | None
    """Steps that the minutes are enough for, as measured; None without a measurement or an end."""
    notes: tuple[str, ...]
    """What to know before it starts."""
    pools_first: bool = False
    """Whether there are no steps: the teachers are pooled, and one network learns from that. What is said of a step's
    cost is then that of a run that recovers tasks."""
    processes: int = 1
    """Processes of this machine that share out the work; memory and seconds are each one's."""

    def to_dict(self) -> dict[str, object]:
        """The plan as plain JSON types."""
        return {
            **vars(self),
            "teachers": [record.to_dict() for record in self.teachers],
            "skipped": [{"reference": reference, "reason": reason} for reference, reason in self.skipped],
            "cost": vars(self.cost),
            "notes": list(self.notes),
        }


def plan(
    config: FreeConfig,
    *,
    token: str | None = None,
    console: Console | None = None,
    measure: bool = True,
    endpoint_tokens: Sequence[str] = (),
    processes: int = 1,
) -> TrainingPlan:
    """Load and check the teachers, count what a step costs, and say what a run would do.

    Args:
        config: The run's configuration.
        token: Hub token, for private and gated teachers.
        console: Where downloads are shown; None shows none.
        measure: Whether memory and time are measured, which takes up to half a minute.
        endpoint_tokens: Tokens of black boxes, as for `train`; each is asked about four pictures.
        processes: Processes of this machine among which the run would be shared out. One alone is started: it loads
            all teachers, and measures with the threads that each would have.

    Raises:
        RunError: fewer than two usable teachers, or fewer than processes.
        ConfigError: a device that is not there, a budget that is not an amount of memory, a test set to validate
            on.
        DatasetError: a validation set that is not there, or too small for an episode.
        LearnerError: a backbone that does not exist, or no learner where `learner.init_from` says.
    """
    check_sections({"config": (config, FreeConfig)})
    processes = whole_number(processes, "processes", least=1)
    check_flags(measure=measure)
    check_texts(token=token)
    check_kind(console, "console", Console, allowed="a rich.console.Console, or None")
    endpoints = EndpointAccess.of(config.queries, tokens=endpoint_tokens)
    found = gather(config, token=token, console=console, is_planned=True, endpoints=endpoints)
    config, pool, precision = found.config, found.pool, found.precision
    check_processes(found.workload, Defects.named(config.defects), processes=processes, teachers=len(pool))
    paints = not isinstance(found.warm_up.inverter, PixelInverter | LearnedPixels)
    cost = estimate(found.workload, pool, found.previous, defects=Defects.named(config.defects), paints=paints)
    pooled_first = pools_first(config, token=token)
    measure = measure and not pooled_first
    budget, few = _measured(assemble(found, token=token), processes) if measure else (None, ())
    predicted, steps = None if budget is None else budget.forecast, config.trainer.steps
    return TrainingPlan(
        method=config.method,
        teachers=tuple(pool.records),
        skipped=tuple(pool.skipped),
        steps=steps,
        max_minutes=config.trainer.max_minutes,
        device=str(found.device),
        mixed_precision=precision.name,
        cost=cost,
        total_flops=None if steps is None else cost.total(steps, config.five.recover_share),
        peak_memory=None if predicted is None else predicted.peak_bytes,
        step_seconds=None if predicted is None else predicted.step_seconds,
        predicted_steps=None if predicted is None else predicted.steps,
        notes=(
            *few,
            *([POOLED_FIRST] if pooled_first else []),
            *notes_on_black_boxes(pool, found.warm_up.inverter, found.workload),
            *notes_on_previous_learner(found.previous, pool.records),
            *notes_on_teachers(config.hub, pool.records),
            *notes_on_writing(config.learner.views, pool.records),
            *([] if config.continues_learner or pooled_first else notes_on_pooling(pool.records, config.method)),
            *notes_on_distillation(config.five, config.bell, pool.records),
            *([] if config.continues_learner else _notes_on_precision(config.learner, precision, found.device)),
            *notes_on_run(config.learner, config.trainer),
        ),
        pools_first=pooled_first,
        processes=processes,
    )


def _measured(parts: Parts, processes: int) -> tuple[Budget | None, tuple[str, ...]]:
    """What the run will take on this machine, and notes on it; of a run that would be refused, the reason alone."""
    threads = torch.get_num_threads()
    if processes > 1:
        torch.set_num_threads(parts.config.trainer.threads or threads_of_a_rank(processes))
    try:
        budget = budget_of(parts, refuse=False, forecast_for=processes)
    except RunError as error:
        return None, (f"this run would be refused: {error}",)
    finally:
        torch.set_num_threads(threads)
    return budget, budget.notes


def _notes_on_precision(config: LearnerConfig, precision: Precision, device: torch.device) -> list[str]:
    """Whether an untrained learner will be computed in another precision than the run."""
    with torch.random.fork_rng(devices=[]):
        learner = MetaLearner(replace(config, init_from=None)).to(device)
    is_fitting = fitting_precision(learner, precision) == precision
    return [] if is_fitting else [FP32_NOTE.format(precision=precision.name)]
