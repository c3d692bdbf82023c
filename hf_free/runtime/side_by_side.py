"""The same work on many things, on several cores: a thread for each core, every one of which computes alone.

torch shares out each single operation over the cores, and waits for all of them after it. Small networks have many
small operations. Two threads that each take a part of the pictures wait for each other once, in the end; and since
each part is computed by one core, the numbers do not depend on how many there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import TypeVar

import torch

MOST_WORKERS = 8
"""Threads at most: each holds what a network makes of its own part on the way."""

MOST_PIXELS_BESIDE = 84
"""Height and width up to which pictures are small enough for a core each. Networks for larger ones fill all cores by
themselves, and take a hundred megabytes a picture on the way."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def workers_for(pieces: int) -> int:
    """Threads that so many pieces of work take: no more than torch computes with, and `MOST_WORKERS`."""
    return min(torch.get_num_threads(), MOST_WORKERS, pieces)


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None, *, threads_each: int = 1
) -> Generator[Result, None, None]:
    """What `work` gives for each item, in the order of the items.

    The work finds the caller's modes (gradients, autocast) and its threads to compute with. Items are taken by the
    caller's thread, at most twice as many as there are workers ahead. Work that has begun is waited for when an error,
    or the caller, ends the loop.

    Args:
        work: It must not change what other items need, nor draw from torch's global random numbers.
        items: What is worked on.
        workers: Threads at most; None takes as many as torch computes with, up to `MOST_WORKERS`. One stands for the
            caller's own, with all that torch computes with.
        threads_each: What torch computes with in each of several.
    """
    threads = torch.get_num_threads()
    count = min(threads, MOST_WORKERS if workers is None else workers)
    if count < 2:
        yield from map(work, items)
        return
    modes, ahead = _Modes(), deque[Future[Result]]()
    executor = ThreadPoolExecutor(count, "hf-free-beside", initializer=torch.set_num_threads, initargs=(threads_each,))
    try:
        for item in items:
            ahead.append(executor.submit(modes.call, work, item))
            if len(ahead) == 2 * count:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(threads)  # what a worker sets for itself is also what threads begin with later


class _Modes:
    """The modes of the thread that makes it, for work that is done in another one.

    Autocast is entered only where it is on: within another region, one that is off too, it keeps the weights that it
    has cast, and work that changes weights would go on with those from before.
    """

    def __init__(self) -> None:
        self._gradients, self._inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        self._autocast = torch.is_autocast_enabled("cpu")
        self._dtype = torch.get_autocast_dtype("cpu")

    def call(self, work: Callable[[Item], Result], item: Item) -> Result:
        with ExitStack() as modes:
            modes.enter_context(torch.inference_mode(self._inference))
            modes.enter_context(torch.set_grad_enabled(self._gradients))
            if self._autocast:
                modes.enter_context(torch.autocast("cpu", self._dtype))
            return work(item)
