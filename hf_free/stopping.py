"""Ctrl-C between two steps of a run, so that the checkpoint it leaves is that of a whole step."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType


class Stopped(KeyboardInterrupt):
    """A run that was stopped between two steps."""


class StopBetweenSteps:
    """Turns the first Ctrl-C inside the block into a wish, which the loop grants when its step is done.

    A second one stops at once. Where Ctrl-C cannot be caught (another thread) or somebody else sees to it, nothing
    changes.
    """

    wanted = False
    """Whether a stop was asked for."""

    def __enter__(self) -> StopBetweenSteps:
        in_main_thread = threading.current_thread() is threading.main_thread()
        self._is_ours = in_main_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._is_ours:
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def grant(self) -> None:
        """Stop here if a stop was asked for.

        Raises:
            Stopped: it was.
        """
        if self.wanted:
            raise Stopped

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.wanted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
