"""What a training run would do, before it does it: teachers, length, cost, what to know. Nothing is trained.

Memory and time are measured: each part of a step is done once or twice with a copy of the learner.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from rich.console import Console

from hf_free.config.recipes import Defects
from hf_free.config.tree import FreeConfig
from hf_free.errors import RunError
from hf_free.inversion.five import Five
from hf_free.learner.meta_learner import MetaLearner
from hf_free.learner.precision import FP32_NOTE, fitting_precision
from hf_free.metalearning.continual import PreviousLearner
from hf_free.provenance.teacher_record import TeacherRecord
from hf_free.runtime.allocator import keep_freed_memory
from hf_free.runtime.device import Precision, choose_device
from hf_free.teachers.pool import TeacherPool
from hf_free.training.budgeting import Budget, make_budget
from hf_free.training.estimate import CostEstimate, estimate
from hf_free.training.notices import notes_on_distillation, notes_on_previous_learner, notes_on_run, notes_on_teachers
from hf_free.training.progress import FetchProgress
from hf_free.training.selection import load_validation
from hf_free.training.setup import check_backbone, make_learner, make_objective, make_soft_labels


@dataclass(frozen=True)
class TrainingPlan:
    """The answer of `hf-free train --dry-run`."""

    recipe: str
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

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain JSON types."""
        return {
            **vars(self),
            "teachers": [record.to_dict() for record in self.teachers],
            "skipped": [{"reference": reference, "reason": reason} for reference, reason in self.skipped],
            "cost": vars(self.cost),
            "notes": list(self.notes),
        }


def plan(
    config: FreeConfig, *, token: str | None = None, console: Console | None = None, measure: bool = True
) -> TrainingPlan:
    """Load and check the teachers, count what a step costs, and say what a run would do.

    Args:
        config: The run's configuration.
        token: Hub token, for private and gated teachers.
        console: Where downloads are shown; None shows none.
        measure: Whether memory and time are measured, which takes up to half a minute.

    Raises:
        RunError: fewer than two usable teachers.
        ConfigError: a device that is not there, a budget that is no amount of memory, or a validation set named test.
        DatasetError: a validation set that is not there, or too small for an episode.
        LearnerError: a backbone that does not exist, or no learner where `learner.init_from` says.
    """
    check_backbone(config)
    device = choose_device(config.trainer.device)
    elder, config = PreviousLearner.load(config, token=token)
    load_validation(config, token)
    precision = Precision.choose(config.trainer.mixed_precision, device)
    hub = config.hub
    with FetchProgress(console) as fetching:
        pool = TeacherPool(
            config.models,
            budget=hub.teacher_memory,
            device=device,
            token=token,
            cache_dir=hub.cache_dir,
            strict=True,
            fetched=fetching.show,
            precision=precision if device.type == "cpu" else Precision(),  # a plan's teachers are on the CPU
        )
    if len(pool) < config.least_teachers:
        reasons = "".join(f"\n  {reference}: {reason}" for reference, reason in pool.skipped)
        raise RunError(
            f"fewer than two tasks: {len(pool)} usable teacher(s)" + (f"; left out:{reasons}" if reasons else ""),
            allowed="two or more usable teachers",
            action="hf-free inspect ID... says what each can be used for",
        )
    cost, steps = estimate(config, pool, elder), config.trainer.steps
    budget, few = _measured(config, pool, elder, device, token) if measure else (None, ())
    predicted = None if budget is None else budget.forecast
    return TrainingPlan(
        recipe=config.recipe,
        teachers=tuple(pool.records),
        skipped=tuple(pool.skipped),
        steps=steps,
        max_minutes=config.trainer.max_minutes,
        device=str(device),
        mixed_precision=precision.name,
        cost=cost,
        total_flops=None if steps is None else cost.total(steps, config.five.recover_share),
        peak_memory=None if predicted is None else predicted.peak_bytes,
        step_seconds=None if predicted is None else predicted.step_seconds,
        predicted_steps=None if predicted is None else predicted.steps,
        notes=(
            *few,
            *notes_on_previous_learner(elder, pool.records),
            *notes_on_teachers(config, pool.records),
            *notes_on_distillation(config, pool.records),
            *_notes_on_precision(config, precision, device),
            *notes_on_run(config),
        ),
    )


def _measured(
    config: FreeConfig, pool: TeacherPool, elder: PreviousLearner | None, device: torch.device, token: str | None
) -> tuple[Budget | None, tuple[str, ...]]:
    """What the run will take on this machine, and notes on it; of a run that would be refused, the reason alone."""
    precision = Precision.choose(config.trainer.mixed_precision, device, channels_last=config.trainer.channels_last)
    five = Five(
        config.five,
        image_size=config.learner.image_size,
        channels=config.learner.channels,
        device=device,
        precision=precision,
        defects=Defects.named(config.defects),
    )
    sheet = make_soft_labels(config, pool, elder, device)
    learner = make_learner(config, pool, sheet, token).to(device)
    bell = make_objective(config, learner, pool, sheet, fitting_precision(learner, precision))
    keep_freed_memory()
    try:
        budget = make_budget(config, five, pool, sheet, bell, precision, refuse=False)
    except RunError as error:
        return None, (f"this run would be refused: {error}",)
    return budget, budget.notes


def _notes_on_precision(config: FreeConfig, precision: Precision, device: torch.device) -> list[str]:
    """Whether the learner will be computed in another precision than the run."""
    if config.continues_learner:
        return []
    with torch.random.fork_rng(devices=[]):
        learner = MetaLearner(replace(config.learner, init_from=None)).to(device)
    is_fitting = fitting_precision(learner, precision) == precision
    return [] if is_fitting else [FP32_NOTE.format(precision=precision.name)]
