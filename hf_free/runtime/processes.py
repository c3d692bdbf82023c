"""Jobs in processes of one thread each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import torch

from hf_free.errors import RunError

Job = TypeVar("Job")

Result = TypeVar("Result")


def in_parallel(
    function: Callable[[Job], Result], jobs: Sequence[Job], *, workers: int | None = None
) -> Iterator[tuple[Job, Result]]:
    """Run a function over jobs in processes of one thread each, which small networks use best; in order of completion.

    Args:
        function: A function at the top level of a module; jobs and results are pickled.
        jobs: Its arguments; those that are begun end at once where this process is interrupted, or stops asking.
        workers: Processes; None takes one per core; 1 stays in this process, with the threads it has.

    Raises:
        RunError: one of the processes was ended from outside.
    """
    workers = min(workers or available_cores(), len(jobs))
    if workers <= 1:
        yield from ((job, function(job)) for job in jobs)
        return
    # spawn: a forked copy of a process that has computed with OpenMP may hang
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare_worker)
    finished = False
    try:
        futures = {pool.submit(function, job): job for job in jobs}
        for future in as_completed(futures):
            yield futures[future], future.result()
        finished = True
    except BrokenProcessPool:
        raise RunError(
            "a process that did a part of the work was ended from outside, perhaps for its memory",
            allowed="some memory for each process",
            action="end other programs, and try again",
        ) from None
    finally:
        if not finished:  # an error, or a signal that only this process got: nobody waits for the jobs that are begun
            for worker in set(multiprocessing.active_children()) - others:
                worker.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


def _prepare_worker() -> None:
    """One thread; and Ctrl-C, which a terminal sends to every process, ends a worker without a traceback."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, lambda *_: os._exit(128 + signal.SIGINT))
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker where the process that waits for it was killed: else it would wait for further jobs for good."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def available_cores() -> int:
    """Cores this process may use."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return found or 1
