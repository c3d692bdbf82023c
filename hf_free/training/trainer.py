"""The training loop: recover tasks by inversion, meta-learn from them, leave a learner and its record on disk.

Read `train` from top to bottom; what it works with is put together in `hf_free.training.setup`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hf_free.config.tree import FreeConfig
from hf_free.errors import RunError, StorageError
from hf_free.inversion.task import RecoveredTask
from hf_free.learner.meta_learner import MetaLearner
from hf_free.memory.filling import fill
from hf_free.metalearning.base import Moment
from hf_free.reporting.recovered import draw_pictures
from hf_free.runtime.interrupts import StopBetweenSteps, Stopped, ended_like_ctrl_c
from hf_free.teachers.pool import TeacherPool
from hf_free.training import checkpoint, finishing, folder, run_lock, schedule, screening, selection, setup, trackers
from hf_free.training.progress import Console, RunProgress, console_for, say_start
from hf_free.training.run import Run
from hf_free.training.warm_up import invert_some

Watch = Callable[[MetaLearner, float], None]


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
    watch: Watch | None = None,
) -> MetaLearner:
    """Train a meta-learner from teachers, without data. One process trains in one folder: a lock names it.

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
        Stopped: Ctrl-C, SIGTERM, SIGHUP, SIGXCPU or SIGUSR1, once the step under way is done or two seconds have
            passed, and a checkpoint is written; `hf_free.training.folder.RunFolder.way_to_finish` says how to go on.
            Handlers of these signals are as before when `train` returns.
        StorageError: the output folder cannot be written to, or is full; the last checkpoint stays as it was.
    """
    setup.check_has_end(config.trainer)
    run_lock.check_one_process()
    place, shown = folder.RunFolder(Path(output).expanduser().absolute()), console_for(progress, console)
    try:
        with ended_like_ctrl_c(), place.claimed(overwrite=overwrite, resume=resume):
            run = setup.prepare(config, place, token=token, resume=resume, pool=pool, console=shown)
            say_start(shown, run.learner, run.pool.records)
            with RunProgress(shown, total_steps=config.trainer.steps) as bar, StopBetweenSteps(place) as stop:
                _learn(run, stop, bar, watch)
            checkpoint.save_checkpoint(run)
            stop.grant()
            return finishing.finish(run)
    except StorageError as error:
        raise place.with_what_is_safe(error) from error


def _learn(run: Run, stop: StopBetweenSteps, bar: RunProgress, watch: Watch | None) -> None:
    """Step after step until the run is over; the learner has its best weights then."""
    state, clock, config = run.state, run.clock, run.config
    worked, terms = state.step, dict[str, float]()
    run.inverter.pause = clock.check
    try:
        while not clock.is_over(state.step):
            stop.grant()
            state.step += 1
            run.streams.begin(state.step)
            terms = {}
            try:
                _step(run, terms)
            except schedule.OutOfTime:
                state.step -= 1  # only whole steps count; what this one has learned already stays
                state.seconds = clock.seconds()
                break

            state.seconds, worked = clock.seconds(), state.step
            if watch is not None:
                watch(run.learner, state.seconds / 60)
            bar.show(state.step, clock.progress(state.step), terms, state.pictures / max(state.seconds, 1e-9))
            if trackers.is_logged(state.step, config.trainer.log_every) or clock.is_over(state.step):
                run.folder.append_log(trackers.log_row(state, run.memory, terms))
            if state.step % config.trainer.picture_every == 0:
                draw_pictures(run.folder, run.memory, run.pool)
            if state.step % config.trainer.checkpoint_every == 0:
                selection.keep_best(run.selector, run.learner, state, run.folder)
            if run.checkpoints.is_due(state.step, clock.seconds(), has_recovered=len(run.memory) > 0):
                checkpoint.save_checkpoint(run)
                run.checkpoints.written(clock.seconds())
        screening.check_recovered(run.memory, run.pool, state, config.five, warm_up=config.trainer.warmup_steps)
        selection.keep_best(run.selector, run.learner, state, run.folder)
        selection.restore_best(run.learner, state, run.folder)
    except (RunError, Stopped):
        if stop.inside_step:
            state.step -= 0 if worked == state.step or terms else 1  # nothing of it is done yet: it is done anew
            state.seconds = clock.seconds()
        checkpoint.save_checkpoint(run)  # what there is stays
        raise


def _step(run: Run, terms: dict[str, float]) -> None:
    """One outer step; its terms for the log go into `terms` as they are known, so that a stop inside it sees them.

    Raises:
        OutOfTime: between two inner steps, two batches of questions or two updates.
    """
    state, clock, five, objective = run.state, run.clock, run.config.five, run.objective

    # inversion: recover tasks from a few teachers, keep the healthy ones
    recovers, warms_up = clock.progress(state.step - 1) < five.recover_share, clock.is_warm_up(state.step)
    student = None if warms_up else objective.student
    is_inverting = recovers or not len(run.memory)
    tasks, moved = list[RecoveredTask](), dict[str, float]()
    if is_inverting:
        tasks, moved = invert_some(run.inverter, run.pool, five, state, student, run.streams)
    terms |= moved
    health = screening.health_of(tasks)
    judged = [task for task in tasks if task.health.problem or not warms_up]
    tasks = screening.healthy_tasks(judged, five, state, run.pool, least=run.config.least_teachers)
    fill(run.filling, tasks, state, pause=clock.check)

    # meta-learning: learn from the new tasks and the memory
    if len(run.memory) and (tasks or not objective.needs_new_tasks):
        moment = Moment(
            rate=clock.learning_rate(state.step - 1),
            is_logged=trackers.is_logged(state.step, run.config.trainer.log_every),
            is_over=lambda: clock.is_over(0),
            pause=clock.check,
            at_once=run.budget.portions.learned,
        )
        terms |= objective.step(tasks, run.memory, moment)
    terms |= health
