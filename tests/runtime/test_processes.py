"""Jobs in processes of one thread each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import pytest
import torch

from hf_free.errors import RunError
from hf_free.runtime import processes
from hf_free.runtime.processes import in_parallel

MINUTES = 1000
"""A job that takes minutes."""


@pytest.mark.slow
def test_jobs_run_in_processes_of_one_thread_each_and_end_where_nobody_waits_for_them():
    running = in_parallel(square_and_place, [MINUTES, -3, 2], workers=2)
    found = dict([next(running), next(running)])
    start = time.monotonic()
    running.close()  # as at a signal that ends this process alone, such as that of `kill PID`
    assert time.monotonic() - start < 60
    assert not multiprocessing.active_children()
    assert {job: square for job, (square, _, _) in found.items()} == {-3: 9, 2: 4}
    assert {threads for _, threads, _ in found.values()} == {1}
    assert os.getpid() not in {process for _, _, process in found.values()}
    assert dict(in_parallel(square_and_place, [5], workers=2))[5][2] == os.getpid()  # one job needs no process


def square_and_place(number: int) -> tuple[int, int, int]:
    """A job: its result, the threads it had and the process it ran in."""
    if number == MINUTES:
        time.sleep(300)
    return number * number, torch.get_num_threads(), os.getpid()


def test_a_worker_ends_with_the_process_that_waits_for_it(monkeypatch):
    """Nothing else ends it where that one is killed: it would wait for further jobs for good."""
    ended, parent = threading.Event(), threading.Thread(target=time.sleep, args=(0.1,))
    parent.start()
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: parent)
    monkeypatch.setattr(os, "_exit", lambda _code: ended.set())
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    before = torch.get_num_threads()
    processes._prepare_worker()
    torch.set_num_threads(before)
    assert ended.wait(60)
    assert not parent.is_alive()


def test_a_process_that_is_ended_from_outside_is_one_message(monkeypatch):
    """Without processes: what the library says of one."""

    def broken(futures):
        raise BrokenProcessPool("terminated abruptly")

    monkeypatch.setattr(processes, "ProcessPoolExecutor", lambda *_, **__: ThreadPoolExecutor(2))
    monkeypatch.setattr(processes, "as_completed", broken)
    with pytest.raises(RunError, match="was ended from outside, perhaps for its memory"):
        list(in_parallel(abs, [-3, 2], workers=2))
