"""The training loop: recover tasks by inversion, meta-learn from them, leave a learner and its record on disk.

Read `train` from top to bottom; what it works with is put together in `hf_free.training.setup`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from hf_free.config.tree import FreeConfig, check_sections
from hf_free.errors import HfFreeError, StorageError
from hf_free.learner.meta_learner import MetaLearner
from hf_free.runtime.device import choose_device
from hf_free.runtime.distributed import LostRank
from hf_free.runtime.energy import EnergyMeter
from hf_free.runtime.given import check_flags, check_function, check_kind, check_texts, given_path
from hf_free.runtime.interrupts import StopBetweenSteps, Stopped
from hf_free.runtime.launched import Launched
from hf_free.teachers.in_memory import OwnTeacher, pool_in_memory
from hf_free.teachers.pool import TeacherPool
from hf_free.training import bookkeeping, finishing, schedule, screening, session, setup, step
from hf_free.training.pooled_first import pools_first, train_from_pooled
from hf_free.training.progress import Console, RunProgress, say_folder, say_start
from hf_free.training.run import Run

Watch = Callable[[MetaLearner, float], None]


def train(
    config: FreeConfig,
    *,
    output: str | Path,
    token: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    models: Sequence[OwnTeacher] | None = None,
    pool: TeacherPool | None = None,
    progress: bool | None = None,
    console: Console | None = None,
    watch: Watch | None = None,
    endpoint_tokens: Sequence[str] = (),
) -> MetaLearner:
    """Train a meta-learner from teachers, without data. One run trains in one folder: a lock names its process.

    Started by torchrun or accelerate launch, each of the run's processes calls this; the first alone writes and shows
    anything, and all come to the same learner (docs/guides/many-devices.md).

    Args:
        config: Everything a run is made of.
        output: Folder of the run: configuration, log, checkpoint, pictures, and `learner/`, ready to publish. A new
            or empty one, unless an earlier run there is resumed or overwritten.
        token: Hub token, for private and gated teachers.
        resume: Go on from the newest whole checkpoint in `output`; where the folder is gone, from that in
            `hub.push_checkpoints`.
        overwrite: Replace an earlier run in `output`; it is put back if the new one fails before its first checkpoint.
        models: Teachers of your own instead of `config.models`: networks in memory, beside texts that name others (see
            `hf_free.teachers.in_memory`). A run that is resumed is given them again.
        pool: Teachers already loaded; None loads `models`, or `config.models`.
        progress: Whether progress is shown; None shows it in a terminal and in a notebook.
        console: Where; None takes stderr, or the notebook.
        watch: Called after each step with the learner as it is and the minutes spent; it must leave the learner alone,
            and its own time counts. Not after warm-up steps done while teachers are still being downloaded.
        endpoint_tokens: Tokens of black boxes: `TOKEN`, or `HOST=TOKEN` for several hosts; none takes
            `HF_FREE_ENDPOINT_TOKEN` of the environment. Never part of a configuration.

    Returns:
        The learner, also saved to `output/learner`.

    Raises:
        ConfigError: a run that nothing ends, or that is all warm-up.
        LearnerError: a backbone that does not exist, or does not take pictures of the learner's size.
        RunError: a folder in use, fewer than two usable teachers, nothing to resume, nothing recovered, or a learner
            that broke.
        FailedElsewhere: another process of the run has failed, and said why.
        Stopped: Ctrl-C, SIGTERM, SIGHUP, SIGXCPU or SIGUSR1, once the step under way is done or two seconds have
            passed, and a checkpoint is written; `hf_free.training.folder.RunFolder.way_to_finish` says how to go on.
            Handlers of these signals are as before when `train` returns.
        StorageError: the output folder cannot be written to, or is full; the last checkpoint stays as it was.
    """
    check_sections({"config": (config, FreeConfig)})
    place = given_path(output, "output", for_weights=True)
    check_flags(resume=resume, overwrite=overwrite, **({} if progress is None else {"progress": progress}))
    check_texts(token=token)
    check_kind(pool, "pool", TeacherPool, allowed="a TeacherPool, or None")
    check_kind(console, "console", Console, allowed="a rich.console.Console, or None")
    check_function(watch, "watch", ("learner", "minutes"))
    setup.check_length(config.trainer)

    def decide() -> bool:
        is_in_memory = models is not None or pool is not None
        return pools_first(config, resume=resume, in_memory=is_in_memory, is_watched=watch is not None, token=token)

    is_alone = Launched.here().count == 1
    pooled_first = is_alone and decide()  # before anything is written
    if models is not None and pool is None:
        device = choose_device(config.trainer.device)
        pool = pool_in_memory(models, device=device, token=token, cache_dir=config.hub.cache_dir)
    with (
        session.opened(
            place,
            trainer=config.trainer,
            hub=config.hub,
            token=token,
            resume=resume,
            overwrite=overwrite,
            progress=progress,
            console=console,
        ) as begun,
        EnergyMeter(active=begun.ranks.is_first, machines=begun.ranks.launched.machines) as energy,
    ):
        if not is_alone:
            pooled_first = begun.ranks.first(begun.ranks.is_first and decide())  # what files say, all have to agree on
        if pooled_first:
            say_folder(begun.console, place)
            return train_from_pooled(
                config, begun.folder, ranks=begun.ranks, resume=resume, token=token, console=begun.console
            )
        run = setup.prepare(
            config,
            begun.folder,
            token=token,
            resume=resume,
            pool=pool,
            console=begun.console,
            ranks=begun.ranks,
            endpoint_tokens=endpoint_tokens,
            energy=energy,
        )
        say_folder(begun.console, place)
        say_start(begun.console, run.learner, run.pool.records, run.chains, run.precision)
        bar = RunProgress(begun.console, total_steps=config.trainer.steps)
        with closing(run.trackers), bar, begun.stopping as stop:
            _learn(run, stop, bar, watch)
        bookkeeping.save(run)
        bookkeeping.agree(run, stop)
        stop.grant()
        return finishing.finish(run)


def _learn(run: Run, stop: StopBetweenSteps, bar: RunProgress, watch: Watch | None) -> None:
    """Step after step until the run is over; the learner has its best weights then."""
    state, clock, config = run.state, run.clock, run.config
    worked, terms = state.step, dict[str, float]()
    run.inverter.pause = clock.check
    try:
        while not bookkeeping.is_over(run, stop):
            stop.grant()
            state.step += 1
            run.streams.begin(state.step)
            terms = {}
            try:
                step.take_step(run, terms)
            except schedule.OutOfTime:
                state.step -= 1  # only whole steps count; what this one has learned already stays
                state.seconds = clock.seconds()
                break

            state.seconds, worked = clock.seconds(), state.step
            bookkeeping.write_down(run)
            if watch is not None:
                watch(run.learner, state.seconds / 60)
            bar.show(state.step, clock.progress(state.step), terms, state.pictures / max(state.seconds, 1e-9))
            bookkeeping.report(run, terms)
            bookkeeping.save_if_due(run)
        bookkeeping.write_down(run)
        screening.check_recovered(run.memory, run.pool, state, config.five, warm_up=config.trainer.warmup_steps)
        bookkeeping.take_best(run)
    except (LostRank, StorageError):
        raise  # the last checkpoint stays: the others did not end this step, or nothing more can be written
    except (HfFreeError, Stopped) as error:
        if stop.inside_step:
            state.step -= 0 if worked == state.step or terms else 1  # nothing of it is done yet: it is done anew
            state.seconds = clock.seconds()
        if isinstance(error, HfFreeError) and run.going_on_from is not None:
            raise  # it has gone on from a checkpoint, and nothing is new
        bookkeeping.write_down(run)
        # what there is stays; a stop is granted in all processes alike, an error may be one's own
        (bookkeeping.save if isinstance(error, Stopped) else bookkeeping.save_alone)(run)
        raise
