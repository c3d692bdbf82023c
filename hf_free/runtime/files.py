"""Files and folders that appear whole or not at all, with the access rights that the user's umask gives new ones.

Some writers (`safetensors`, `tempfile`) make files that only their owner may read, whatever the umask says. What is
written through here has the rights that `open` and `mkdir` would have given it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

SCRATCH_SUFFIX = ".new"
"""Ending of what is not whole yet. A killed process leaves it behind, see `remove_scraps`."""

OLD_SUFFIX = ".old"
"""Ending of a folder that is being replaced, see `replace_folder`."""


def write_file(path: Path, write: Callable[[Path], object]) -> Path:
    """Write a file whole or not at all: what was there stays until the new one is complete.

    Args:
        path: The file. Folders above it are made where they are missing.
        write: Writes the content to the path it is given, which lies in the same folder; what it raises is raised.

    Returns:
        The path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = _scratch_beside(path)
    mode = _make_empty(scratch)
    try:
        write(scratch)
        scratch.chmod(mode)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
    return path


def write_text(path: Path, text: str) -> Path:
    """Write a text file in UTF-8, with the line ends as they are, whole or not at all."""
    return write_file(path, lambda scratch: scratch.write_text(text, encoding="utf-8", newline=""))


def replace_folder(folder: Path, fill: Callable[[Path], object]) -> Path:
    """Replace a folder by a new one whole or not at all: the old one stays until the new one is complete.

    Two renames do that. A process that is killed between them leaves the old folder under `OLD_SUFFIX`;
    `whole_folder` finds it there.

    Args:
        folder: The folder. Folders above it are made where they are missing.
        fill: Writes the content into the empty folder it is given; what it raises is raised.

    Returns:
        The folder.
    """
    fresh, old = _with_suffix(folder, SCRATCH_SUFFIX), _with_suffix(folder, OLD_SUFFIX)
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        fill(fresh)
        give_usual_rights(fresh)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    if folder.exists():  # else a kill between the renames left only the old one, which stays until the end
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    return folder


def whole_folder(folder: Path) -> Path:
    """Where a folder that `replace_folder` writes lies: itself, or what a kill between the two renames left of it."""
    old = _with_suffix(folder, OLD_SUFFIX)
    return old if old.is_dir() and not folder.exists() else folder


def read_bounded(path: Path, *, max_bytes: int) -> bytes:
    """Read a file that a stranger may have put there: a regular one of bounded size, or a link to one.

    A pipe is not waited for, and a device that never ends is not read.

    Raises:
        FileNotFoundError: no such file.
        OSError: one that may not be read, or a link to itself.
        ValueError: something else than a regular file, or one that is too large.
    """
    # Not blocking, or opening a pipe would wait. Judged once it is open: nobody can exchange it between the two.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError("it is not a regular file")
        with open(handle, "rb", closefd=False) as file:
            data = file.read(max_bytes + 1)
    finally:
        os.close(handle)
    if len(data) > max_bytes:
        raise ValueError(f"it has more than {max_bytes} bytes")
    return data


def why_unreadable(path: Path) -> str | None:
    """Why a file or folder that is there may not be read by this user, in words; None where it may, or is not there.

    `safetensors` says of such a file that it does not exist.
    """
    if not path.exists():
        return None
    wanted = os.R_OK | os.X_OK if path.is_dir() else os.R_OK
    if os.access(path, wanted, effective_ids=os.access in os.supports_effective_ids):
        return None
    return f"{path.name} may not be read by this user: its access rights are {stat.filemode(path.stat().st_mode)}"


def give_usual_rights(folder: Path) -> None:
    """Give all files below a folder the rights that `open` would have given them, and all folders those of `mkdir`."""
    probe = _scratch_beside(folder / "probe")
    file_mode = _make_empty(probe)
    probe.unlink()
    probe.mkdir()
    folder_mode = probe.stat().st_mode & 0o7777
    probe.rmdir()
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(folder_mode if path.is_dir() else file_mode)


def remove_scraps(folder: Path) -> None:
    """Remove the unfinished files that killed processes left in a folder. Only for a folder nobody else writes to."""
    for scrap in folder.glob(f".*{SCRATCH_SUFFIX}"):
        scrap.unlink(missing_ok=True)


def _scratch_beside(path: Path) -> Path:
    """A hidden name that nobody else uses, on the same file system."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{SCRATCH_SUFFIX}")


def _make_empty(path: Path) -> int:
    """Make an empty file; the mode it has got, so that the umask (and a folder's own rules) need not be asked."""
    with path.open("xb") as file:
        return os.fstat(file.fileno()).st_mode & 0o777


def _with_suffix(folder: Path, suffix: str) -> Path:
    return folder.with_name(folder.name + suffix)
