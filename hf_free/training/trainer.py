"""The training loop: recover tasks with FIVE, learn from them with BELL, leave a learner and its record on disk.

Read `train` from top to bottom; everything it calls that is not the loop itself lives in the files it imports.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import accelerate
import torch
from accelerate.utils import set_seed
from safetensors.torch import save_file

from hf_free.config.tree import FreeConfig
from hf_free.errors import RunError
from hf_free.inversion.five import Five
from hf_free.inversion.task import RecoveredTask
from hf_free.learner.meta_learner import MetaLearner
from hf_free.memory.bank import TaskMemory
from hf_free.memory.filling import fill
from hf_free.metalearning.base import Moment, Objective
from hf_free.metalearning.continual import PreviousLearner, known_teachers
from hf_free.metalearning.embedding_fit import fit_embedding
from hf_free.reporting.heterogeneity import draw_heterogeneity
from hf_free.reporting.recovered import draw_pictures
from hf_free.runtime.allocator import keep_freed_memory
from hf_free.runtime.device import Precision, choose_device
from hf_free.runtime.files import write_file
from hf_free.runtime.interrupts import StopBetweenSteps, Stopped, terminated_like_ctrl_c
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.soft_labels import SoftLabels
from hf_free.training.absolute_paths import absolute_config
from hf_free.training.budgeting import Budget, make_budget
from hf_free.training.checkpoint import (
    CheckpointSchedule,
    OutOfTime,
    load_checkpoint,
    save_checkpoint,
    teachers_to_resume,
    write_teachers,
)
from hf_free.training.folder import RunFolder
from hf_free.training.portions import Portions
from hf_free.training.progress import FetchProgress, RunProgress, console_for, say_start
from hf_free.training.results import run_record, write_learner
from hf_free.training.run_lock import check_one_process
from hf_free.training.schedule import Clock
from hf_free.training.screening import (
    check_enough,
    check_recovered,
    health_of,
    healthy_tasks,
    leave_out_silent,
    note_teachers,
)
from hf_free.training.selection import chosen_on, keep_best, load_validation, make_selector, restore_best
from hf_free.training.setup import (
    check_backbone,
    check_has_end,
    compile_if_asked,
    learners_precision,
    make_learner,
    make_objective,
    make_soft_labels,
    set_threads,
)
from hf_free.training.state import RunState
from hf_free.training.trackers import is_logged, log_row
from hf_free.training.warm_up import WarmUp, invert_some

if TYPE_CHECKING:
    from rich.console import Console

HARDLY_TRAINED = 0.7
"""Share of what the teachers' answers vary by that is not predicted, above which a run says so; finished runs are at
0.05 to 0.4, knowing nothing is 1."""


def train(
    config: FreeConfig,
    *,
    output: str | Path,
    token: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    pool: TeacherPool | None = None,
    progress: bool | None = None,
    console: Console | None = None,
    watch: Callable[[MetaLearner, float], None] | None = None,
) -> MetaLearner:
    """Train a meta-learner from teachers, without data.

    One process trains in one folder: a lock in it names the process.

    Args:
        config: Everything a run is made of.
        output: Folder of the run: configuration, log, checkpoint, pictures, and `learner/`, ready to publish. A new
            or empty one, unless an earlier run there is resumed or overwritten.
        token: Hub token, for private and gated teachers.
        resume: Go on from the checkpoint in `output`.
        overwrite: Replace an earlier run in `output`; it is put back if the new one fails before its first checkpoint.
        pool: Teachers already loaded; None loads `config.models`.
        progress: Whether progress is shown; None shows it in a terminal and in a notebook.
        console: Where; None takes stderr, or the notebook.
        watch: Called after each step with the learner as it is and the minutes spent; it must leave the learner alone,
            and its own time counts. Not after warm-up steps done while teachers are still being downloaded.

    Returns:
        The learner, also saved to `output/learner`.

    Raises:
        LearnerError: a backbone that does not exist, or does not take pictures of the learner's size.
        RunError: a folder in use, fewer than two usable teachers, nothing to resume, nothing recovered, or a learner
            that broke.
        Stopped: Ctrl-C or SIGTERM, once the step under way is done or two seconds have passed, and a checkpoint is
            written; `hf_free.training.folder.RunFolder.way_to_finish` says how to go on.
    """
    check_has_end(config)
    check_one_process()
    run = RunFolder(Path(output).expanduser().absolute())
    shown = console_for(progress, console)
    with terminated_like_ctrl_c(), run.claimed(overwrite=overwrite, resume=resume):
        config, watch = absolute_config(config), watch or _watch_nothing
        return _train(config, run, token=token, resume=resume, pool=pool, console=shown, watch=watch)


def _train(
    config: FreeConfig,
    run: RunFolder,
    *,
    token: str | None,
    resume: bool,
    pool: TeacherPool | None,
    console: Console | None,
    watch: Callable[[MetaLearner, float], None],
) -> MetaLearner:
    """The run itself, in a folder that is this process's; see `train`."""
    check_backbone(config)
    set_seed(config.seed)
    set_threads(config)
    keep_freed_memory()
    device = choose_device(config.trainer.device)
    accelerator = accelerate.Accelerator(cpu=device.type == "cpu")
    precision = Precision.choose(config.trainer.mixed_precision, device, channels_last=config.trainer.channels_last)
    elder, config = PreviousLearner.load(config, token=token)
    validation = load_validation(config, token)
    sources = teachers_to_resume(run, config) if resume else config.models
    state = RunState()
    with FetchProgress(console) as fetching:
        warm_up = WarmUp(config, device, precision, state, fetching.show_step)
        pool = pool or TeacherPool(
            sources,
            budget=config.hub.teacher_memory,
            device=device,
            token=token,
            cache_dir=config.hub.cache_dir,
            strict=True,
            fetched=fetching.show,
            meanwhile=None if resume else warm_up.step,
            precision=precision,
        )
    note_teachers(pool, config, state, elder)
    check_enough(pool, state, config)
    sheet = make_soft_labels(config, pool, elder, device)
    learner = make_learner(config, pool, sheet, token).to(device)
    learner.backbone.to(memory_format=torch.channels_last if precision.channels_last else torch.contiguous_format)
    five = warm_up.five
    fitting = learners_precision(learner, precision)
    bell = make_objective(config, learner, pool, sheet, fitting)
    budget = _make_budget(config, five, pool, sheet, bell, precision, resume=resume)
    portions = budget.portions
    run.begin(config, resume=resume, log=warm_up.log)  # a start that fails leaves nothing in the folder
    write_teachers(run, config, pool.records)

    compile_if_asked(five, learner, config, device)
    sizes = (portions.memory, portions.held_out)
    memory, held_out = (TaskMemory(size, answers=sheet.width if bell.asks_teachers else 0) for size in sizes)
    judge = make_selector(config, learner, bell, held_out, validation, at_once=portions.learned)
    accelerator.prepare(
        learner, *five.modules().values(), *bell.modules().values(), *five.optimizers(), *bell.optimizers()
    )
    if resume:
        state = load_checkpoint(run, accelerator, bell, memory, held_out)
        run.read_log(before_step=state.step)
        check_enough(pool, state, config)
    clock = Clock(config, state.seconds, reserve=budget.forecast.reserve_seconds)
    checkpoints, worked = CheckpointSchedule(config, state.seconds), state.step
    say_start(console, learner, pool.records)

    with RunProgress(console, total_steps=config.trainer.steps) as progress, StopBetweenSteps(run) as stop:
        five.pause = clock.check
        parts = _Parts(config, five, bell, pool, sheet, precision, memory, held_out, clock, portions)
        try:
            while not clock.is_over(state.step):
                stop.grant()
                state.step += 1
                terms: dict[str, float] = {}
                try:
                    _step(parts, state, terms)
                except OutOfTime:
                    state.step -= 1  # only whole steps count; what this one has learned already stays
                    state.seconds = clock.seconds()
                    break

                state.seconds, worked = clock.seconds(), state.step
                watch(learner, state.seconds / 60)
                progress.show(state.step, clock.progress(state.step), terms, state.pictures / max(state.seconds, 1e-9))
                if is_logged(state.step, config) or clock.is_over(state.step):
                    run.append_log(log_row(state, memory, terms))
                if state.step % config.trainer.picture_every == 0:
                    draw_pictures(run, memory, pool)
                if state.step % config.trainer.checkpoint_every == 0:
                    keep_best(judge, learner, state, run)
                if checkpoints.is_due(state.step, clock.seconds(), has_recovered=len(memory) > 0):
                    save_checkpoint(run, accelerator, bell, memory, held_out, state)
                    checkpoints.written(clock.seconds())
            check_recovered(memory, pool, state, config)
            keep_best(judge, learner, state, run)
            restore_best(learner, state, run)
        except (RunError, Stopped):
            if stop.inside_step:
                _leave_step(state, clock, done=worked == state.step or bool(terms))
            save_checkpoint(run, accelerator, bell, memory, held_out, state)  # what there is stays
            raise

    learner.eval()
    save_checkpoint(run, accelerator, bell, memory, held_out, state)
    stop.grant()
    weights = {k: v.contiguous() for k, v in five.generator.state_dict().items()}
    write_file(run.generator, partial(save_file, weights))
    draw_pictures(run, memory, pool)
    draw_heterogeneity(memory, pool, run.pictures / "teachers.png", without=state.excluded, seed=config.seed)
    _note_if_hardly_trained(run)
    gone = leave_out_silent(learner, sheet, memory, pool, state)
    most, at_once = portions.finished, portions.embedded
    fit_embedding(learner, sheet, memory, config.bell, without=gone, most=most, at_once=at_once)
    known = known_teachers(elder, pool.records, sheet, without=gone)
    learner.record = (
        run_record(config, known, state, device, precision, chosen_on(judge, state), learner_precision=fitting)
        | learner.record
    )
    write_learner(run, learner, with_generator=config.hub.push_generator)
    return learner


def _watch_nothing(learner: MetaLearner, minutes: float) -> None:
    """Where nobody wants to be called after each step."""


def _leave_step(state: RunState, clock: Clock, *, done: bool) -> None:
    """Note a step that was stopped inside: one of which nothing is done yet is done anew by a run that goes on."""
    if not done:
        state.step -= 1
    state.seconds = clock.seconds()


@dataclass(frozen=True)
class _Parts:
    """What a step works with."""

    config: FreeConfig
    five: Five
    bell: Objective
    pool: TeacherPool
    sheet: SoftLabels
    precision: Precision
    memory: TaskMemory
    held_out: TaskMemory
    clock: Clock
    portions: Portions


def _step(run: _Parts, state: RunState, terms: dict[str, float]) -> None:
    """One outer step; its terms for the log go into `terms` as they are known, so that a stop inside it sees them.

    Raises:
        OutOfTime: between two inner steps, two batches of questions or two updates.
    """
    config, bell, memory, clock = run.config, run.bell, run.memory, run.clock
    health: dict[str, float] = {}
    tasks: list[RecoveredTask] = []

    # FIVE: invert a few teachers, move the meta-generator, keep the healthy tasks
    if clock.progress(state.step - 1) < config.five.recover_share or not len(memory):
        warming_up = clock.is_warm_up(state.step)
        tasks, moved = invert_some(run.five, run.pool, config, state, None if warming_up else bell.student)
        terms |= moved
        judged = [task for task in tasks if task.health.problem] if warming_up else tasks
        health = health_of(tasks)
        tasks = healthy_tasks(judged, config, state, run.pool)
        fill(
            memory,
            run.held_out,
            tasks,
            config,
            run.pool,
            run.sheet,
            run.precision,
            state,
            at_once=run.portions.asked,
            pause=clock.check,
        )

    # BELL: learn from the new tasks and the memory
    if len(memory) and (tasks or not bell.needs_new_tasks):
        moment = Moment(
            rate=clock.learning_rate(state.step - 1),
            is_logged=is_logged(state.step, config),
            is_over=partial(clock.is_over, 0),
            pause=clock.check,
            at_once=run.portions.learned,
        )
        terms |= bell.step(tasks, memory, moment)
    terms |= health


def _note_if_hardly_trained(run: RunFolder) -> None:
    """Say so where a learner cannot predict its teachers' answers yet; only recipes that predict them log how far."""
    left = [row["answers"] for row in run.read_log() if "answers" in row][-1:]
    if left and left[0] > HARDLY_TRAINED:
        logging.getLogger(__name__).warning(
            "hardly trained: %.0f %% of what the teachers' answers vary by is not predicted yet; give it more --steps "
            "or --max-minutes",
            100 * left[0],
        )


def _make_budget(
    config: FreeConfig,
    five: Five,
    pool: TeacherPool,
    sheet: SoftLabels,
    bell: Objective,
    precision: Precision,
    *,
    resume: bool,
) -> Budget:
    """The run's portions, in which FIVE and BELL work from here on; says what is cut.

    Raises:
        RunError: it does not fit into memory, or its minutes are enough for too few steps; not where it goes on.
    """
    timed = config.trainer.max_minutes is not None and not resume
    budget = make_budget(config, five, pool, sheet, bell, precision, timed=timed)
    for note in budget.notes:
        logging.getLogger(__name__).warning("%s", note)
    five.most_images = budget.portions.task
    return budget
