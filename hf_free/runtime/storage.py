"""A disk that is full, a used-up quota, a file system that cannot be written to: one message instead of many.

Each writer has an error of its own for them: Python an `OSError`, safetensors a text with the system's number,
torch a `RuntimeError` without. What else a file system says of a file that it names, such as a stale handle of a
network file system, is such a message too, in the system's words.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hf_free.errors import StorageError
from hf_free.runtime.text import size_text

_FULL = "no space is left on its file system"
_DENIED = "this user may not write there"
_REASONS = {
    "ENOSPC": _FULL,
    "EDQUOT": "the quota of this user is used up there",
    "EROFS": "its file system is read-only",
    "EACCES": _DENIED,
    "EPERM": _DENIED,
    "EFBIG": "a limit on the size of files is reached (ulimit -f)",
    "EIO": "the disk fails",
    "EMFILE": "this process has too many files open (ulimit -n)",
    "ENFILE": "this system has too many files open",
}
_IN_THE_WAY = {
    "EEXIST": "something else is in its place or its folder's, such as a link that leads nowhere",
    "EISDIR": "a folder is in its place",
    "ENOTDIR": "a file is in the place of a folder above it",
    "ELOOP": "the links there lead in a circle",
    "ENAMETOOLONG": "the name is too long for its file system",
}


def _numbered(names: Iterable[str]) -> dict[str, int]:
    """The system's numbers of these errors, as far as it has them."""
    return {name: getattr(errno, name) for name in names if hasattr(errno, name)}


_BY_NUMBER = {number: (_REASONS | _IN_THE_WAY)[name] for name, number in _numbered((*_REASONS, *_IN_THE_WAY)).items()}
_MOVABLE = frozenset(_numbered(_IN_THE_WAY).values())
_TOO_MANY = frozenset(_numbered(("EMFILE", "ENFILE")).values())
_SPACE = frozenset(_numbered(("ENOSPC", "EDQUOT")).values())


@contextmanager
def storage_explained(path: Path, *, needed: int | None = None, safe: str = "") -> Iterator[None]:
    """Within the block a file that cannot be written is a `StorageError`; other errors pass.

    Args:
        path: What is written.
        needed: Bytes that it takes, where they are known.
        safe: What is kept all the same, for the message.

    Raises:
        StorageError: names the file, its folder, the space and what is safe.
    """
    try:
        yield
    except Exception as error:
        # What was said of a part, such as a scratch file that is gone by now, is said anew of the whole.
        cause = error.__cause__ if isinstance(error, StorageError) and error.__cause__ else error
        problem = storage_problem(cause, path, needed=needed, safe=safe)
        if problem is None:
            raise
        raise problem from cause


def storage_problem(
    error: BaseException, path: Path | None = None, *, needed: int | None = None, safe: str = ""
) -> StorageError | None:
    """The message for a failed write; None where an error is of another kind.

    Args:
        error: What was raised.
        path: What was written; None takes the file that the error names, of two the one that was written.
        needed: Bytes that it takes, where they are known.
        safe: What is kept all the same.
    """
    if isinstance(error, StorageError):
        return None
    if isinstance(error, FileNotFoundError) and "temporary directory" in str(error):  # tempfile's, without a name
        return StorageError(
            "no folder for temporary files can be written to",
            allowed="one that this user may write to, with space and no limit on the size of files (ulimit -f)",
            action="name one: TMPDIR=FOLDER hf-free ...",
        )
    number = _number_of(error)
    if number is None and _is_of_a_file(error, and_gone=path is None):
        number = error.errno  # type: ignore[attr-defined]  # it is an OSError by then
    if number is None and path is not None and isinstance(error, FileNotFoundError):
        missing = Path(str(error.filename))
        if missing in (path.parent, *path.parent.parents):  # mkdir's: a file system that takes no folders, as /proc
            return StorageError(
                f"cannot write {path.name} in {path.parent}: no folder can be made there",
                allowed="a folder that this user may write to, with space for the file",
                action="write to another folder",
            )
    if number is None:
        return None
    named = getattr(error, "filename2", None) or getattr(error, "filename", None)  # of a copy or a move: its target
    what = "write" if path else "read or write"
    reason = _BY_NUMBER.get(number) or os.strerror(number).lower()
    if path is None and named is None:  # of a file that was open: the system does not say which
        return StorageError(
            f"cannot read or write a file: {reason}",
            allowed="files that can be read, and folders with space that this user may write to",
            action="see what else is said of that disk, or name other files and folders",
        )
    path = path or Path(str(named))
    if what == "read or write" and reason == _DENIED:  # the system does not say which of the two
        return StorageError(
            f"cannot read or write {path.name} in {path.parent}: this user may not",
            allowed="files that this user may read, and folders that this user may write to",
            action="ask their owner for the right, or name others",
        )
    is_space = number in _SPACE
    free = _free(path)
    is_limit = number == getattr(errno, "EFBIG", None)
    facts = [f"{size_text(needed)} are needed" if (is_space or is_limit) and needed else ""]
    is_quota = number == getattr(errno, "EDQUOT", None)  # whose rest is not that of the file system
    facts += [f"{size_text(free)} are free" if is_space and not is_quota and free is not None else ""]
    shown = "; ".join(fact for fact in facts if fact)
    action = "write to another folder"
    action = f"free some space there, or {action}" if is_space else action
    action = "raise that limit before you start hf-free: ulimit -f unlimited" if is_limit else action
    action = f"move away what is there, or {action}" if number in _MOVABLE else action
    allowed = "a folder that this user may write to, with space for the file"
    if number in _TOO_MANY:
        allowed, action = "some hundred open files", "raise that limit before you start hf-free: ulimit -n 1024"
    if number == getattr(errno, "ENAMETOOLONG", None):
        allowed, action = "names of at most 255 bytes, paths of at most 4,096", "give a shorter name"
    return StorageError(
        f"cannot {what} {path.name} in {path.parent}: {reason}" + (f" ({shown})" if shown else ""),
        allowed=allowed,
        action=action + (f"; {safe}" if safe else ""),
    )


def _is_of_a_file(error: BaseException, *, and_gone: bool) -> bool:
    """Whether an error is a file system's, which names the file; one that is gone is often no failed write."""
    if not isinstance(error, OSError) or not isinstance(error.errno, int) or error.filename is None:
        return False
    return and_gone or not isinstance(error, FileNotFoundError)


def is_known(error: OSError) -> bool:
    """Whether a failed write has a message of its own."""
    return error.errno in _BY_NUMBER


def _number_of(error: BaseException) -> int | None:
    """The system's number of a failed write; None for anything else."""
    if isinstance(error, OSError):
        return error.errno if error.errno in _BY_NUMBER else None
    text = str(error)
    if found := re.search(r"\(os error (\d+)\)", text):  # Rust's words, safetensors'
        return int(found[1]) if int(found[1]) in _BY_NUMBER else None
    if found := re.search(r"unable to open file .*\((\d+)\)$", text):  # torch's, of a file that it maps
        return int(found[1]) if int(found[1]) in _BY_NUMBER else None
    if isinstance(error, RuntimeError) and ("PytorchStreamWriter" in text or "inline_container" in text):
        return errno.ENOSPC  # torch.save keeps the reason to itself; it writes files that were opened already
    return None


def _free(path: Path) -> int | None:
    for folder in path.absolute().parents:
        try:
            return shutil.disk_usage(folder).free
        except OSError:
            continue
    return None
