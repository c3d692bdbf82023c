"""Work in forked processes that are killed, at their n-th change to a file system or some seconds after the first."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path


def killed(
    work: Callable[[], object],
    *,
    at_call: int | None = None,
    after: float | None = None,
    after_first: float | None = None,
    below: Path | None = None,
) -> bool:
    """Run work in a process that is killed with SIGKILL.

    Args:
        work: What to do.
        at_call: Number of the change to a file system before which it is killed.
        after: Seconds after which it is killed; until then the work is repeated.
        after_first: Seconds after the first change.
        below: The folder whose changes count; None counts all.

    Returns:
        Whether it was killed before it was done.
    """
    child = os.fork()
    if not child:
        if at_call is not None or after_first is not None:
            _watch(at_call, after_first, below)
        code = 1
        try:
            while True:
                work()
                if after is None:
                    break
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise AssertionError("the work failed before it was killed; its traceback stands above")
    return os.WIFSIGNALED(status)


def is_change(event: str, arguments: tuple[object, ...], below: Path | None = None) -> bool:
    """Whether an audit event says that a file is opened for writing, linked, renamed or removed, or a folder made."""
    if event == "open":
        changes = isinstance(arguments[1], str) and arguments[1][0] in "wxa"
    else:
        changes = event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.link", "shutil.rmtree")
    if not changes or below is None:
        return changes
    return isinstance(arguments[0], str | os.PathLike) and Path(arguments[0]).is_relative_to(below)


def _watch(at_call: int | None, after_first: float | None, below: Path | None) -> None:
    """Kill this process just before that change, or so long after the first one."""
    calls = 0

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal calls
        if is_change(event, arguments, below):
            calls += 1
            if calls == at_call:
                os.kill(os.getpid(), signal.SIGKILL)
            if calls == 1 and after_first is not None:
                signal.setitimer(signal.ITIMER_REAL, after_first)  # nobody handles it: the process ends at once

    sys.addaudithook(watch)
