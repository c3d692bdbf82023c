"""Which teachers and tasks a run leaves out, and why: named in log, report and card, while the others go on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from statistics import fmean

from hf_free.config.sections import FiveConfig, HubConfig
from hf_free.data.logits import LogitLayout, unanswered_teachers
from hf_free.errors import RunError
from hf_free.inversion.task import RecoveredTask
from hf_free.learner.meta_learner import MetaLearner
from hf_free.memory.bank import TaskMemory
from hf_free.metalearning.continual import PreviousLearner
from hf_free.metalearning.embedding_fit import drop_teachers
from hf_free.publishing.results import is_path
from hf_free.runtime.chains import Chains
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.reference import existing_path
from hf_free.training.notices import (
    license_notes,
    notes_on_previous_learner,
    notes_on_writing,
    privacy_notes,
    twice_notes,
)
from hf_free.training.state import RunState

logger = logging.getLogger(__name__)

GONE = "it cannot be loaded any more"
"""Why a teacher is left out that was there at first."""

MAX_FAILURES = 5
"""Recoveries that may fail in a row before a teacher is left alone."""


def note_teachers(
    pool: TeacherPool, hub: HubConfig, state: RunState, elder: PreviousLearner | None, views: Sequence[str]
) -> None:
    """Say which teachers are left out, known already or named twice, and what to know of licenses, names and views."""
    licenses = license_notes([(record.reference, record.license) for record in pool.records])
    licenses += twice_notes(pool.records)
    in_fp32 = [f"{r.reference}: {r.notes[-1]}" for r in pool.records if r.fp32_only]
    notes_on_privacy = privacy_notes(pool.records, hub)
    known, writing = notes_on_previous_learner(elder, pool.records), notes_on_writing(views, pool.records)
    for note in [*licenses, *notes_on_privacy, *known, *in_fp32, *writing]:
        logger.warning(note)
    for reference, reason in pool.skipped:
        _skip(state, _unmistakable(reference), reason)


def check_enough(pool: TeacherPool, state: RunState, least: int, most_classes: int, *, way_out: str = "") -> None:
    """Stop a run that has too few tasks left, with the reasons.

    Every inversion takes other classes of a teacher, at most `most_classes`: one with many classes is many tasks by
    itself.

    Args:
        pool: The teachers.
        state: Which of them are left alone, or have gone.
        least: Tasks that are needed.
        most_classes: Classes of a task.
        way_out: What would have kept the last one that was left out.

    Raises:
        RunError: fewer tasks than `least`.
    """
    left = [record for place, record in enumerate(pool.records) if place not in {*state.excluded, *state.gone}]
    if sum(max(1, record.num_classes // most_classes) for record in left) >= least:
        return
    usable = len(left)
    reasons = "\n".join(f"  {entry['reference']}: {entry['reason']}" for entry in state.skipped)
    raise RunError(
        f"fewer than two tasks: {usable} usable teacher(s)" + (f"; left out:\n{reasons}" if reasons else ""),
        allowed=f"two or more usable teachers; one of {2 * most_classes} classes, which is split into tasks of "
        f"{most_classes}; or one to add to a learner (--from)",
        action="; ".join(filter(None, [way_out, "hf-free inspect ID... says what each can be used for"])),
    )


def healthy_tasks(
    tasks: Sequence[RecoveredTask], config: FiveConfig, state: RunState, pool: TeacherPool, *, least: int = 2
) -> list[RecoveredTask]:
    """The tasks worth learning from; a teacher that fails again and again is left alone, with the reason.

    One that cannot be inverted at all, for want of memory, is left alone at once.

    Raises:
        RunError: fewer than `least` tasks are left, see `check_enough`.
    """
    kept = []
    for task in tasks:
        reason = task.health.reason_to_leave_out(config.min_teacher_accuracy, config.min_diversity)
        key = str(task.teacher)
        if reason is None:
            state.failures.pop(key, None)
            kept.append(task)
            continue
        if not any(known.startswith(f"{task.reference}: ") for known in state.left_out):
            logger.warning("a task of %s is left out: %s", task.reference, reason)  # its next ones only in the record
        entry = f"{task.reference}: {reason}"
        state.left_out[entry] = state.left_out.get(entry, 0) + 1
        state.failures[key] = state.failures.get(key, 0) + 1
        may_fail = 1 if task.health.problem else MAX_FAILURES
        if state.failures[key] >= may_fail and task.teacher not in state.excluded:
            state.excluded.append(task.teacher)
            _skip(state, task.reference, f"not inverted any more: {reason}")
            check_enough(pool, state, least, config.max_classes, way_out=task.health.way_out)
    return kept


def leave_out_gone(pool: TeacherPool, chains: Chains, config: FiveConfig, state: RunState, *, least: int = 2) -> None:
    """Leave out the teachers that any process could not load again, in all processes alike, with the reason.

    What they said before stays in the memory.

    Raises:
        RunError: fewer than `least` tasks are left, see `check_enough`.
    """
    for of_rank in chains.ranks.gather(pool.gone):
        pool.gone |= of_rank
    new = sorted(pool.gone.keys() - set(state.gone))
    for place in new:
        state.gone.append(place)
        _skip(state, pool.records[place].reference, f"{GONE}: {pool.gone[place]}")
    if new:
        check_enough(pool, state, least, config.max_classes)


def welcome_back(pool: TeacherPool, state: RunState) -> None:
    """Take in again what a resumed run's earlier start had lost, where it can be loaded by now."""
    for place in [place for place in state.gone if place not in pool.gone]:
        name = pool.records[place].reference
        state.gone.remove(place)
        state.skipped = [
            one for one in state.skipped if one["reference"] != name or not one["reason"].startswith(GONE)
        ]
        logger.warning("%s can be loaded again, and takes part from here on", name)


def check_recovered(memory: TaskMemory, pool: TeacherPool, state: RunState, five: FiveConfig, *, warm_up: int) -> None:
    """Stop a run that recovered nothing, and say so where all that was recovered is one teacher's.

    Args:
        memory: What was recovered.
        pool: The teachers.
        state: What the run counted.
        five: Which tasks it kept.
        warm_up: Steps of its warm-up, at most.

    Raises:
        RunError: an empty memory, with the reasons for which tasks were left out.
    """
    reasons = "".join(f"\n  {entry} ({count} times)" for entry, count in state.left_out.items())
    because = f"; left out:{reasons}" if reasons else ""
    if not len(memory):
        loosen = [f"five.{key}=0" for key in ("min_teacher_accuracy", "min_diversity") if getattr(five, key) > 0]
        settings = " ".join([*(["trainer.warmup_steps=0"] if warm_up else []), *loosen])
        raise RunError(
            f"no task was recovered in {state.step} steps (warm-up: {warm_up} at most){because}",
            allowed="a run that outlasts its warm-up, with teachers that recognize their recovered pictures",
            action="more --steps or --max-minutes" + (f", or --set {settings}" if settings else ""),
        )
    owners = {key.teacher for key in memory.classes}
    if len(owners) == 1 and len(pool) > 1:
        (owner,) = owners
        logger.warning("all recovered pictures are of one teacher, %s%s", pool.records[owner].reference, because)


def health_of(tasks: Sequence[RecoveredTask]) -> dict[str, float]:
    """Mean health of a step's tasks, for its line in the log: the share recognized, the diversity within classes."""
    if not tasks:
        return {}
    return {
        "teacher_accuracy": fmean(task.health.accuracy for task in tasks),
        "diversity": fmean(task.health.diversity for task in tasks),
    }


NEVER_ASKED = "the run was too short to ask it about any picture: more --steps or --max-minutes"
"""Why a teacher whose turn did not come is left out."""


def leave_out_silent(
    learner: MetaLearner,
    layout: LogitLayout,
    memory: TaskMemory,
    pool: TeacherPool,
    state: RunState,
    *,
    earlier: int = 0,
) -> list[int]:
    """Teachers that answered nothing teach nothing: named, and taken out of the learner's answers.

    The first blocks, `earlier` of them, stay: those of a learner that is continued.
    """
    if not memory.keeps_answers:
        return []  # nobody was asked: the paper's way
    kept = {teacher for block in layout.blocks[:earlier] for teacher in block.teachers}
    gone = [i for i in unanswered_teachers(layout, memory.said()) if i not in kept]
    drop_teachers(learner, layout, gone)
    named = {entry["reference"] for entry in state.skipped}
    never = {i for block, count in zip(layout.blocks, state.asked, strict=False) if not count for i in block.teachers}
    for teacher in gone:
        if (name := pool.records[teacher].reference) not in named:
            _skip(state, name, NEVER_ASKED if teacher in never else "it answered none of the pictures")
    return gone


def _skip(state: RunState, reference: str, reason: str) -> None:
    """Record a teacher that is left out, for record and card, and log it at once."""
    state.skipped.append({"reference": reference, "reason": reason})
    logger.warning("left out: %s: %s", reference, reason)


def _unmistakable(reference: str) -> str:
    """Write a folder whose name looks like a Hub id as ./folder."""
    return f"./{reference}" if existing_path(reference) is not None and not is_path(reference) else reference
