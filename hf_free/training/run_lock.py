"""One run per folder: its lock, which names the process that holds it; of several processes, the first."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import stat
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from hf_free.errors import RunError
from hf_free.runtime.files import read_bounded
from hf_free.runtime.owners import is_alive
from hf_free.runtime.storage import storage_explained

LOCK_FILE = "run.lock"
"""The lock's file in a run's folder, there while a process holds it."""

_MOST_BYTES = 2**16
"""Most bytes of it; an entry has about 150."""


@dataclass(frozen=True)
class LockHolder:
    """The process that a lock names."""

    pid: int
    host: str
    started: float
    """When the process began, in seconds since 1970; tells it from a later process of the same number."""
    since: str
    """When it took the lock, for people."""

    @classmethod
    def this_process(cls) -> LockHolder:
        """The process that asks."""
        import psutil

        since = datetime.now().astimezone().isoformat(" ", "seconds")
        return cls(os.getpid(), socket.gethostname(), psutil.Process().create_time(), since)

    def is_alive(self) -> bool | None:
        """Whether the process still runs; None where it is another computer's, which cannot be asked."""
        if self.host != socket.gethostname():
            return None
        return is_alive(self.pid, self.started)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


class RunLock:
    """A run's folder held by one process, from `acquire` to `release`.

    The operating system's own lock on the file is what counts where there is one: it ends with its process, however
    that ends. The text in the file says who holds it, and decides for file systems without such locks and for folders
    that several computers share.

    Args:
        folder: The run's folder. It is made for the lock where it is missing, and removed with it if nothing else
            has come into it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK_FILE
        self._file: int | None = None
        self._made: list[Path] = []

    def acquire(self) -> None:
        """Take the lock; that of a dead process of this computer is taken over.

        Raises:
            RunError: another process has it, or may have it; a pipe, a device or a link has its name.
        """
        folder = self.path.parent
        self._made = [path for path in (folder, *folder.parents) if not path.exists()]
        while True:
            with storage_explained(self.path):
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                except FileNotFoundError:  # of a file system that takes no folders, such as /proc
                    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(folder)) from None
                if self.path.is_symlink():  # what it leads to would be written over
                    raise self._no_lock("a link")
                file = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
            if not stat.S_ISREG(os.fstat(file).st_mode):  # reading a pipe would wait
                os.close(file)
                raise self._no_lock("no file")
            is_locked = _try_lock(file)
            if is_locked is not False and not _is_at(file, self.path):  # its holder removed it in between
                os.close(file)
                continue
            break
        holder = read_holder(self.path)
        alive = holder.is_alive() if holder is not None else False
        if is_locked is False or alive is None or (alive and is_locked is None):
            os.close(file)
            raise self._refusal(holder, maybe_over=is_locked is not False and alive is None)
        self._file = file
        try:
            with storage_explained(self.path):
                os.ftruncate(file, 0)
                os.write(file, json.dumps(asdict(LockHolder.this_process())).encode())
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Give the lock back and remove its file; twice is once."""
        if self._file is None:
            return
        file, self._file = self._file, None
        if os.name == "nt":  # no open file can be removed there
            os.close(file)
        with contextlib.suppress(OSError):
            self.path.unlink()
        if os.name != "nt":
            os.close(file)
        for folder in self._made:  # innermost first; only while they are empty
            try:
                folder.rmdir()
            except OSError:
                break

    def __enter__(self) -> RunLock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _no_lock(self, what: str) -> RunError:
        return RunError(
            f"{self.path} is {what}",
            allowed="the lock of a run, or nothing of that name",
            action="remove it, or give another --output",
        )

    def _refusal(self, holder: LockHolder | None, *, maybe_over: bool) -> RunError:
        by = f"{holder}" if holder is not None else "another process"
        folder = self.path.parent
        action = f"wait for it or stop it, or give another --output (output=...): two runs cannot share {folder}"
        if maybe_over:
            action += f"; if that process is over, remove {self.path}"
        return RunError(f"the run's folder {folder} is in use by {by}", allowed="one process per run", action=action)


def check_free(folder: Path, *, overwrite: bool, resume: bool) -> None:
    """Refuse an output that another process writes to, and two flags of which each says the opposite of the other.

    Raises:
        RunError: both flags, or a folder that is held, with its process.
    """
    if overwrite and resume:
        raise RunError("--overwrite and --resume together", allowed="one of the two", action="leave one out")
    if (folder / LOCK_FILE).is_file():
        with RunLock(folder):  # refuses, and names the process
            pass


def read_holder(path: Path) -> LockHolder | None:
    """Who holds a lock, by its file; None where there is no such file, or one without a whole entry."""
    try:
        values = json.loads(read_bounded(path, max_bytes=_MOST_BYTES))
        return LockHolder(int(values["pid"]), str(values["host"]), float(values["started"]), str(values["since"]))
    except (OSError, ValueError, TypeError, LookupError, ArithmeticError, RecursionError):
        return None


def _try_lock(file: int) -> bool | None:
    """Whether the operating system's lock was free and is now held; None where the file system has none."""
    try:
        import fcntl
    except ImportError:  # Windows: the text in the file decides
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # type: ignore[attr-defined]  # checked for Windows too
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_at(file: int, path: Path) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
