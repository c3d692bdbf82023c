"""Names that say whose an unfinished file is, to tell what a killed process left from a living one's work."""

from __future__ import annotations

import functools
import os
import re
import secrets
import socket
import time
import zlib
from pathlib import Path

_TAG = re.compile(r"(?<![0-9a-z])p(\d+)t([0-9a-f]+)h([0-9a-f]{8})(?![0-9a-z])")

_CLOCK_TOLERANCE = 2.0
"""Seconds by which two readings of one process's start may differ: some systems count them from a drifting clock."""

STALE_SECONDS = 24 * 3600.0
"""Age after which an unfinished file of another computer, which cannot be asked, counts as abandoned."""


def owned_tag() -> str:
    """A text for a file's name, never the same twice, that `is_abandoned` knows this process by."""
    import psutil

    started = int(psutil.Process().create_time())
    return f"p{os.getpid()}t{started:x}h{_host()}-{secrets.token_hex(4)}"


def is_abandoned(path: Path) -> bool:
    """Whether nobody works on an unfinished file or folder any more.

    A name without a tag is nobody's. Another computer's is given up when it is a day old.
    """
    found = _TAG.search(path.name)
    if found is None:
        return True
    if found[3] != _host():
        try:
            return time.time() - path.stat().st_mtime > STALE_SECONDS
        except OSError:
            return False
    return not is_alive(int(found[1]), int(found[2], 16) + 0.5)  # names hold whole seconds, rounded down


def is_alive(pid: int, started: float) -> bool:
    """Whether a process of this computer still runs.

    Args:
        pid: Its number.
        started: When it began, in seconds since 1970, which tells it from a later process of the same number.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        is_zombie = process.status() == psutil.STATUS_ZOMBIE  # ended, and not yet asked for its exit code
        return not is_zombie and abs(process.create_time() - started) < _CLOCK_TOLERANCE + 0.5
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # somebody else's
        return True


@functools.cache
def _host() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"
