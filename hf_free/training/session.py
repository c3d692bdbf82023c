"""The surroundings of a run: its folder, its processes, signals, and the message about a full disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from hf_free.config.sections import HubConfig, TrainerConfig
from hf_free.errors import QueryBudgetError, StorageError
from hf_free.runtime.determinism import deterministic_algorithms
from hf_free.runtime.distributed import Ranks, connect, quiet_unless
from hf_free.runtime.given import from_home
from hf_free.runtime.interrupts import StopBetweenSteps, ended_like_ctrl_c
from hf_free.runtime.launched import Launched
from hf_free.training.folder import RunFolder
from hf_free.training.progress import Console, console_for
from hf_free.training.remote_checkpoints import restore_run


@dataclass(frozen=True)
class Session:
    """A run that may begin.

    Attributes:
        folder: Its folder, claimed by its first process.
        ranks: Its processes.
        console: Where it shows progress; None in all but the first process.
        stopping: Ends the run between two steps when a signal asks for it.
    """

    folder: RunFolder
    ranks: Ranks
    console: Console | None
    stopping: StopBetweenSteps


@contextmanager
def opened(
    output: str | Path,
    *,
    trainer: TrainerConfig,
    hub: HubConfig,
    token: str | None,
    resume: bool,
    overwrite: bool,
    progress: bool | None,
    console: Console | None,
) -> Iterator[Session]:
    """Connect the processes, claim the folder and listen for signals; all is as before afterwards.

    Args:
        output: The run's folder.
        trainer: Its device, threads and determinism.
        hub: Where its checkpoints are pushed to, and the cache.
        token: Hub token.
        resume: Whether an earlier run goes on; where its folder is gone, from `hub.push_checkpoints`.
        overwrite: Whether it may replace an earlier run.
        progress: Whether progress is shown; None shows it in a terminal and in a notebook.
        console: Where; None takes stderr, or the notebook.

    Raises:
        RunError: a folder in use, or nothing to resume.
        QueryBudgetError: a black box may not be asked as often as is needed.
        StorageError: the folder cannot be written to, or is full; with what is safe.
    """
    place, remote = RunFolder(from_home(output).absolute()), hub.push_checkpoints
    ranks = connect(Launched.here(), trainer.device, threads=trainer.threads)
    shown = console_for(progress, console) if ranks.is_first else None
    claimed = place.claimed(overwrite=overwrite, resume=resume) if ranks.is_first else nullcontext()
    exact = deterministic_algorithms(trainer.deterministic)
    try:
        with ranks.failing_together(), quiet_unless(ranks.is_first), ended_like_ctrl_c(), exact:
            if resume and remote is not None and ranks.is_first and not place.config.is_file():
                restore_run(place.root, remote, token=token, cache_dir=hub.cache_dir)
            with claimed:
                ranks.wait()  # until the first process has claimed the folder
                yield Session(place, ranks, shown, StopBetweenSteps(place, inside=ranks.count == 1))
    except StorageError as error:
        raise place.with_what_is_safe(error) from error
    except QueryBudgetError as error:
        raise place.with_way_on(error) from error
