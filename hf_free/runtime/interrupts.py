"""Ctrl-C and SIGTERM in a run: it stops within seconds, with a checkpoint of whole updates."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Protocol

from torch.nn.modules.module import register_module_forward_pre_hook

from hf_free.provenance.reading import Json


class HasCheckpoint(Protocol):
    """Where a run keeps its checkpoint."""

    def checkpoint_state(self) -> Json | None:
        """The checkpoint to go on from; a RunError where there is none."""


GRACE_SECONDS = 2.0
"""Seconds that a step under way is given to end before it is stopped inside."""


class Stopped(KeyboardInterrupt):
    """A run that was stopped by Ctrl-C or SIGTERM."""


@contextmanager
def terminated_like_ctrl_c() -> Iterator[None]:
    """Within the block SIGTERM, which schedulers and containers send, ends a run as Ctrl-C does: by an exception.

    Where somebody else sees to the signal, or in another thread than the main one, nothing changes.
    """
    is_ours = _in_main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if is_ours:
        signal.signal(signal.SIGTERM, _stop_now)
    try:
        yield
    finally:
        if is_ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


class StopBetweenSteps:
    """Turns the first Ctrl-C or SIGTERM inside the block into a wish, which the loop grants when its step is done.

    A step that is not done within `GRACE_SECONDS` is stopped before the next forward pass of any network: there no
    weight is half updated, so that a checkpoint can be written. A second signal stops at once, without a checkpoint;
    the first says so. Where a signal cannot be caught (another thread) or somebody else sees to it, nothing changes.

    Args:
        run: The run's folder, to say of which step its last checkpoint is; None says nothing of it.
    """

    wanted = False
    """Whether a stop was asked for."""
    inside_step = False
    """Whether it was granted inside a step."""

    def __init__(self, run: HasCheckpoint | None = None) -> None:
        self._run = run
        self._before: dict[int, Any] = {}
        self._hook: Any = None

    def __enter__(self) -> StopBetweenSteps:
        ours = (signal.default_int_handler, _stop_now)
        for number in (signal.SIGINT, signal.SIGTERM) if _in_main_thread() else ():
            if signal.getsignal(number) in ours:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()
        self._remove_hook()

    def grant(self) -> None:
        """Stop here if a stop was asked for.

        Raises:
            Stopped: it was.
        """
        if self.wanted:
            self._remove_hook()
            raise Stopped

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.wanted = True
        self._give_back()
        asked_at = time.monotonic()

        def grant_inside(*_: object) -> None:
            if _in_main_thread() and time.monotonic() - asked_at >= GRACE_SECONDS:
                self.inside_step = True
                self.grant()

        self._hook = register_module_forward_pre_hook(grant_inside)
        logging.getLogger(__name__).warning("%s", self._warning())

    def _give_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _remove_hook(self) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def _warning(self) -> str:
        now = "stopping with a checkpoint, within seconds; Ctrl-C once more stops now, without one"
        if self._run is None:
            return now
        state = self._run.checkpoint_state()
        return f"{now} (there is none yet)" if state is None else f"{now} (the last is of step {state['step']})"


def _stop_now(number: int, frame: FrameType | None) -> None:
    raise Stopped


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
