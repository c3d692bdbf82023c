"""Seconds of a piece of work: wall-clock time, or what its device computed."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Wall-clock time of a piece of work, with what it left for the device to do."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def clock_of(device: torch.device) -> Callable[[], float]:
    """The clock for a device's work: on a CPU the time that all threads of the process compute, whatever else runs;
    elsewhere wall-clock time, since the process only waits."""
    if device.type != "cpu":
        return time.perf_counter
    return lambda: time.process_time() / torch.get_num_threads()


def busy_seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Time of a piece of work by its device's clock, with what it left for the device to do."""
    clock = clock_of(device)
    synchronize(device)
    start = clock()
    work()
    synchronize(device)
    return clock() - start
