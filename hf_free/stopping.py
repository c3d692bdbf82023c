"""Ctrl-C between two steps of a run, so that the checkpoint it leaves is that of a whole step."""

from __future__ import annotations

import json
import logging
import signal
import threading
from types import FrameType, TracebackType

from hf_free.errors import RunError
from hf_free.run_folder import RunFolder


class Stopped(KeyboardInterrupt):
    """A run that was stopped between two steps."""


class StopBetweenSteps:
    """Turns the first Ctrl-C inside the block into a wish, which the loop grants when its step is done.

    A second one stops at once, without a checkpoint; the first says so. Where Ctrl-C cannot be caught (another thread)
    or somebody else sees to it, nothing changes.

    Args:
        run: The run's folder, to say of which step its last checkpoint is; None says nothing of it.
    """

    wanted = False
    """Whether a stop was asked for."""

    def __init__(self, run: RunFolder | None = None) -> None:
        self._run = run

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
        logging.getLogger(__name__).warning("%s", self._warning())

    def _warning(self) -> str:
        now = "stopping with a checkpoint after this step; Ctrl-C once more stops now, without one"
        if self._run is None:
            return now
        try:
            state = json.loads((self._run.checkpoint_to_resume() / "state.json").read_text(encoding="utf-8"))
            return f"{now} (the last is of step {state['step']})"
        except (RunError, OSError, ValueError, KeyError):  # none yet, or it is being replaced just now
            return f"{now} (there is none yet)"
