"""Work in forked processes that are killed, at their n-th change to a file system or after some seconds."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable


def killed(work: Callable[[], object], *, at_call: int | None = None, after: float | None = None) -> bool:
    """Run work in a process that is killed with SIGKILL; with `after` it is repeated until then.

    Returns:
        Whether it was killed before it was done.
    """
    child = os.fork()
    if not child:
        if at_call is not None:
            _kill_at(at_call)
        code = 1
        try:
            while True:
                work()
                if after is None:
                    break
            code = 0
        finally:
            os._exit(code)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise AssertionError("the work failed before it was killed; its traceback stands above")
    return os.WIFSIGNALED(status)


def is_change(event: str, arguments: tuple[object, ...]) -> bool:
    """Whether an audit event says that a file is opened for writing, linked, renamed or removed, or a folder made."""
    if event == "open":
        return isinstance(arguments[1], str) and arguments[1][0] in "wxa"
    return event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.link", "shutil.rmtree")


def _kill_at(at_call: int) -> None:
    """Kill this process just before that change."""
    calls = 0

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal calls
        if is_change(event, arguments):
            calls += 1
            if calls == at_call:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
