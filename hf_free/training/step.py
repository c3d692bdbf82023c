"""One step of a run: recover tasks by inversion, then learn from them and the memory."""

from __future__ import annotations

from hf_free.inversion.task import RecoveredTask
from hf_free.memory.filling import fill
from hf_free.metalearning.base import Moment
from hf_free.training import black_boxes, screening, trackers
from hf_free.training.run import Run
from hf_free.training.warm_up import invert_some


def take_step(run: Run, terms: dict[str, float]) -> None:
    """One outer step; its terms for the log go into `terms` as soon as they are known, so that they are there after a
    stop inside it.

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
        tasks, moved = invert_some(
            run.inverter, run.pool, five, state, student, run.streams, run.chains, objective.preferred
        )
    terms |= moved
    run.between_parts()
    health = screening.health_of(tasks)
    judged = [task for task in tasks if task.health.problem or not warms_up]
    tasks = screening.healthy_tasks(judged, five, state, run.pool, least=run.config.least_tasks)
    draws_alone = is_inverting and not warms_up and not any(black_boxes.invertible(run.pool, run.inverter))
    fill(run.filling, tasks, state, draws_alone=draws_alone, pause=clock.check)
    screening.leave_out_gone(run.pool, run.chains, five, state, least=run.config.least_tasks)
    terms |= black_boxes.query_terms(run.pool)
    run.between_parts()

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
    run.between_parts()
