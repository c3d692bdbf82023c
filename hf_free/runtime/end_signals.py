"""Signals that end a command: it removes what it has begun first, as at Ctrl-C. Nothing here takes long to import."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_END_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""A scheduler's or `kill`'s; a closed terminal's."""


class EndedBySignal(BaseException):
    """The end of a command at a signal; its status is what a shell shows of a program that the signal has ended.

    No SystemExit, as which a network of the user's own may end the process: a signal may come while one is asked, and
    is no fault of it.
    """

    def __init__(self, number: int) -> None:
        self.status = 128 + number
        super().__init__(self.status)


@contextmanager
def ended_in_order() -> Iterator[None]:
    """Within the block these signals end the program by an exception, so that temporary folders and unfinished files
    go. Nothing changes where a signal is ignored (SIGHUP under nohup) or has a handler, or outside the main thread.
    """
    here = threading.current_thread() is threading.main_thread()
    ours = [number for number in _END_SIGNALS if here and signal.getsignal(number) is signal.SIG_DFL]
    handler = _Handler(os.getpid())
    for number in ours:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in ours:
            if signal.getsignal(number) is handler:
                signal.signal(number, signal.SIG_DFL)


def would_end(number: int) -> bool:
    """Whether a signal would end the program, in order or at once."""
    return signal.getsignal(number) is signal.SIG_DFL or isinstance(signal.getsignal(number), _Handler)


class _Handler:
    """Ends the process that it was made in; a fork of it, which has begun nothing itself, ends at once."""

    def __init__(self, owner: int) -> None:
        self._owner = owner

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        raise EndedBySignal(number)
