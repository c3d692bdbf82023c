"""What happens between two steps: the log's line, pictures, the learner's score, a checkpoint.

Of a run's processes only the first writes; all of them score and agree on the time, so that they take the same steps.
"""

from __future__ import annotations

import time

from hf_free.reporting.recovered import draw_pictures
from hf_free.runtime.interrupts import StopBetweenSteps
from hf_free.training import selection, trackers
from hf_free.training.checkpoint import save_checkpoint, write_teachers
from hf_free.training.run import Run


def write_down(run: Run) -> None:
    """Write the settings and teachers of a run that goes on into its folder, and cut its log to where it goes on.

    Not before its first step is done: new settings that fail leave the run as it was.
    """
    if run.going_on_from is not None and run.chains.ranks.is_first:
        run.folder.begin(run.config.to_yaml(), resume=True)
        write_teachers(run.folder, run.config.models, run.pool)
        run.folder.read_log(before_step=run.going_on_from)
    run.going_on_from = None


def save(run: Run) -> None:
    """Write a checkpoint, where this is the run's first process; all have to call it alike."""
    run.objective.bring_together()
    if run.chains.ranks.is_first:
        _write(run)


def save_alone(run: Run) -> None:
    """Write a checkpoint where the other processes may not come along; none where each has a part of what it needs."""
    if not (run.config.bell.shard_learner and run.chains.ranks.count > 1) and run.chains.ranks.is_first:
        run.objective.bring_together()
        _write(run)


def _write(run: Run) -> None:
    run.state.energy = run.energy.spent()
    run.state.queries = run.pool.endpoints.budget.spent if run.pool.black_boxes else 0
    save_checkpoint(run)


def save_if_due(run: Run) -> None:
    """Write a checkpoint if the schedule says that one is due."""
    seconds, begun = run.clock.seconds(), time.monotonic()
    is_due = run.checkpoints.is_due(run.state.step, seconds, has_recovered=len(run.memory) > 0)
    if run.config.bell.shard_learner:  # all have to take part; how long writing took, each knows by itself
        is_due = run.chains.ranks.first(is_due)
    if is_due:
        save(run)
        run.checkpoints.written(seconds + time.monotonic() - begun)  # the shared clock stands meanwhile


def report(run: Run, terms: dict[str, float]) -> None:
    """Do what is due after a step: its line in the log, pictures, the learner's score."""
    state, trainer, ranks = run.state, run.config.trainer, run.chains.ranks
    is_logged = trackers.is_logged(state.step, trainer.log_every) or run.clock.is_over(state.step)
    if is_logged and ranks.is_first:
        row = trackers.log_row(state, run.memory, terms, ranks=ranks)
        run.folder.append_log(row)
        run.trackers.log(trackers.tracked(row, state), state.step)
    if state.step % trainer.picture_every == 0 and ranks.is_first:
        draw_pictures(run.folder, run.memory, run.pool)
        run.trackers.picture("recovered", run.folder.pictures / "recovered.png", state.step)
    if state.step % trainer.checkpoint_every == 0:
        judge(run)


def judge(run: Run) -> None:
    """Score the learner and keep it if it is the best."""
    selection.keep_best(run.selector, run.learner, run.state, run.folder, writes=run.chains.ranks.is_first)
    run.trackers.log(trackers.tracked_score(run.state), run.state.step)


def take_best(run: Run) -> None:
    """Give the learner of every process the best weights so far."""
    judge(run)
    if run.chains.ranks.is_first:
        selection.restore_best(run.learner, run.state, run.folder)
    run.chains.ranks.copy_from_first(run.learner.state_dict().values())


def agree(run: Run, stop: StopBetweenSteps) -> None:
    """Have all processes of a run see one time and one wish to stop, so that they do the same until the next call."""
    ranks = run.chains.ranks
    if ranks.count > 1:
        told = ranks.gather((run.clock.running(), stop.wanted, stop.number))
        run.clock.hold(told[0][0])  # the first process's
        wishes = [number for _, wanted, number in told if wanted]
        stop.wanted, stop.number = bool(wishes), stop.number or next(iter(wishes), None)


def is_over(run: Run, stop: StopBetweenSteps) -> bool:
    """Whether the run has used up its steps or minutes, as all its processes agree."""
    agree(run, stop)
    return run.clock.is_over(run.state.step)
