"""Signals in a run: Ctrl-C and what schedulers and terminals send stop it within seconds, with a checkpoint."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Protocol

from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils.hooks import RemovableHandle

from hf_free.runtime.end_signals import would_end

Handler = Callable[[int, FrameType | None], object] | int | None
"""What `signal.signal` takes and gives back."""


class HasCheckpoint(Protocol):
    """Where a run keeps its checkpoints."""

    def last_step(self) -> int | None:
        """The step of the checkpoint to go on from; None where there is none."""


GRACE_SECONDS = 2.0
"""Seconds that a step under way is given to end before it is stopped inside."""

_LOOK_SECONDS = 0.1
"""How often a wait looks whether a stop was asked for."""

STOP_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGXCPU", "SIGUSR1")
    if hasattr(signal, name)  # Windows has the first two
)
"""Ctrl-C; a scheduler's end; a closed terminal; used-up CPU time; the warning that a scheduler can send before the
end."""

_AT_ONCE = (signal.SIGINT, signal.SIGTERM)
"""A second one of these stops at once. The others come again by themselves: SIGXCPU each second (setrlimit(2)), and a
closed terminal may send SIGHUP twice."""


class Stopped(KeyboardInterrupt):
    """A run that was stopped by a signal.

    Args:
        number: The signal's; None where it is not known.
    """

    def __init__(self, number: int | None = None) -> None:
        super().__init__()
        self.number = number


@contextmanager
def ended_like_ctrl_c() -> Iterator[None]:
    """Within the block all `STOP_SIGNALS` end a run as Ctrl-C does: by an exception, so that it can clean up. Nothing
    changes where a signal has another handler already or is ignored (SIGHUP under nohup), or outside the main thread.
    At the end of the block the handlers are as they were.
    """
    ours = [number for number in STOP_SIGNALS if _in_main_thread() and would_end(number)]
    before = {number: signal.signal(number, _stop_now) for number in ours}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _taken_over(note: Handler) -> dict[int, Handler]:
    """Have `note` called at the stop signals that Python or we would end the process at; what was called before."""
    before: dict[int, Handler] = {}
    for number in STOP_SIGNALS if _in_main_thread() else ():
        if signal.getsignal(number) in (signal.default_int_handler, _stop_now):
            before[number] = signal.signal(number, note)
    return before


class StopNoted:
    """Notes signals to stop inside the block, for a loop that only waits: an exception that falls into a finalizer or
    a library's callback would be lost, and the wait go on for ever. A second Ctrl-C or SIGTERM is an exception again.
    Inside a block of `ended_like_ctrl_c`, in the main thread.
    """

    wanted = False
    """Whether a stop was asked for."""

    def __init__(self) -> None:
        self._before: dict[int, Handler] = {}

    def __enter__(self) -> StopNoted:
        self._before.update(_taken_over(self._note))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def wait(self) -> None:
        """Until a stop is asked for."""
        while not self.wanted:  # no event: one that a signal's handler sets may be held by what it interrupts
            time.sleep(_LOOK_SECONDS)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.wanted = True
        for other in _AT_ONCE:
            if other in self._before:
                signal.signal(other, signal.default_int_handler)


class StopBetweenSteps:
    """Turns the first signal to stop inside the block into a wish, which the loop grants when its step is done.

    A step that is not done within `GRACE_SECONDS` is stopped before the next forward pass of any network: there no
    weight is half updated, so that a checkpoint can be written. A second Ctrl-C or SIGTERM stops at once, without a
    checkpoint; the first says so. Where a signal cannot be caught (outside the main thread), is ignored, or has a
    handler already, nothing changes.

    Args:
        run: The run's folder, to say of which step its last checkpoint is; None says nothing of it.
        inside: Whether it may stop inside a step; one of several processes may not, the others would wait for it.
    """

    wanted = False
    """Whether a stop was asked for."""
    inside_step = False
    """Whether it was granted inside a step."""
    number: int | None = None
    """The signal that asked for it."""

    def __init__(self, run: HasCheckpoint | None = None, *, inside: bool = True) -> None:
        self._run, self._inside = run, inside
        self._before: dict[int, Handler] = {}
        self._hook: RemovableHandle | None = None

    def __enter__(self) -> StopBetweenSteps:
        self._before.update(_taken_over(self._note))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back(*self._before)
        self._remove_hook()

    def grant(self) -> None:
        """Stop here if a stop was asked for.

        Raises:
            Stopped: a stop was asked for.
        """
        if self.wanted:
            self._remove_hook()
            raise Stopped(self.number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.wanted:
            return
        self.wanted, self.number = True, number
        for other in _AT_ONCE:
            if other in self._before and (self._inside or other == signal.SIGINT):
                # a KeyboardInterrupt, of which nobody makes a checkpoint: weights may be half updated. Of a launcher's
                # process SIGTERM stays a wish, since the launcher sends its own beside the scheduler's
                signal.signal(other, signal.default_int_handler)
        asked_at = time.monotonic()

        def grant_inside(*_: object) -> None:
            if self._inside and _in_main_thread() and time.monotonic() - asked_at >= GRACE_SECONDS:
                self.inside_step = True
                self.grant()

        self._hook = register_module_forward_pre_hook(grant_inside)
        logging.getLogger(__name__).warning("%s", self._warning(number))

    def _give_back(self, *numbers: int) -> None:
        for number in numbers:
            signal.signal(number, self._before.pop(number))

    def _remove_hook(self) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def _warning(self, number: int) -> str:
        why = "" if number == signal.SIGINT else f"{signal.Signals(number).name}: "
        now = f"{why}stopping with a checkpoint, within seconds; Ctrl-C once more stops now, without one"
        if self._run is None:
            return now
        step = self._run.last_step()
        return f"{now} (there is none yet)" if step is None else f"{now} (the last is of step {step})"


def _stop_now(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
