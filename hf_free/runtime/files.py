"""Files and folders that appear whole or not at all, with the access rights that the user's umask gives new ones.

Some writers (`safetensors`, `tempfile`) make files that only their owner may read, whatever the umask says. What is
written through here has the rights that `open` and `mkdir` would have given it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from hf_free.runtime.owners import is_abandoned, owned_tag
from hf_free.runtime.storage import is_known, storage_explained

SCRATCH_SUFFIX = ".new"
"""Ending of what is not whole yet. A killed process leaves it behind, see `remove_scraps`."""

OLD_SUFFIX = ".old"
"""Ending of a folder that is being removed, see `remove_folder`."""


_CANNOT_FLUSH = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
"""What file systems without it say."""

_CANNOT_FLUSH_FOLDERS = frozenset({errno.EBADF, errno.EACCES, errno.EPERM})
"""What they, and rights, say of a folder alone: something was written into it all the same."""

_NO_RIGHTS = frozenset({errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
"""What file systems without access rights, such as FAT, say where one is set."""

_PART = 2**20
"""Bytes that are copied at a time."""


@contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """A folder that is there within the block, and those above it; where the block fails, those that were made for it
    go again, unless something has come into them."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        with suppress(OSError):  # not empty: what is in it is somebody's, and so are the folders above
            for path in made:
                path.rmdir()
        raise


def write_file(path: Path, write: Callable[[Path], object], *, needed: int | None = None) -> Path:
    """Write a file whole or not at all: what was there stays until the new one is complete and on the disk.

    What killed processes have left of earlier tries at the same file goes.

    Args:
        path: The file. Folders above it are made where they are missing.
        write: Writes the content to the path it is given, which lies in the same folder; what it raises is raised.
        needed: Bytes that it takes, for the message where there is no space.

    Returns:
        The path.

    Raises:
        StorageError: it cannot be written there.
    """
    safe = "the file that was there before is unchanged" if path.exists() else ""
    with storage_explained(path, needed=needed, safe=safe), made_folder(path.parent):
        _remove_scraps(path.parent, f".{path.name}.")
        scratch = _scratch_beside(path)
        try:
            mode = _make_empty(scratch)
            write(scratch)
            _give_rights(scratch, mode)
            sync(scratch)
            os.replace(scratch, path)
        finally:
            with suppress(OSError):  # what is left is a scrap, and the file itself has come about or has not
                scratch.unlink(missing_ok=True)
    return path


def write_text(path: Path, text: str) -> Path:
    """Write a text file in UTF-8, with the line ends as they are, whole or not at all.

    Bytes of a file's name that are no UTF-8 become their codes, such as `\\udcff`, which JSON reads as the name again.
    """
    data = text.encode("utf-8", "backslashreplace")
    return write_file(path, lambda scratch: scratch.write_bytes(data), needed=len(data))


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files of one folder that belong together, over older ones: a process that is killed leaves all of the
    older ones, all of the new ones, or the first few of either, but never files of two calls side by side. So does a
    machine that loses power, on a file system that keeps the order of renames.

    Args:
        contents: In the order in which they take their places; all of them are on the disk before the first one does.

    Raises:
        StorageError: they cannot be written there; the old ones stay.
    """
    first, *others = contents
    needed = sum(map(len, contents.values()))
    safe = "the files that were there before are unchanged" if any(path.exists() for path in contents) else ""
    for path in contents:
        with storage_explained(path, safe=safe):
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    with storage_explained(first, needed=needed, safe=safe), made_folder(first.parent):
        scratches = {}
        try:
            for path, content in contents.items():
                _remove_scraps(path.parent, f".{path.name}.")
                scratches[path] = scratch = _scratch_beside(path)
                mode = _make_empty(scratch)
                scratch.write_bytes(content)
                _give_rights(scratch, mode)
                sync(scratch)
            for path in reversed(others):
                path.unlink(missing_ok=True)
            for path, scratch in scratches.items():
                os.replace(scratch, path)
        finally:
            for scratch in scratches.values():
                with suppress(OSError):
                    scratch.unlink(missing_ok=True)


def new_folder(folder: Path, fill: Callable[[Path], object], *, needed: int | None = None) -> Path:
    """Make a folder that appears whole or not at all, also where the machine loses power.

    Args:
        folder: Not there yet. Folders above it are made where they are missing.
        fill: Writes the content into the empty folder it is given; what it raises is raised.
        needed: Bytes that it takes, for the message where there is no space.

    Returns:
        The folder.

    Raises:
        StorageError: it cannot be written there.
    """
    with storage_explained(folder, needed=needed), made_folder(folder.parent):
        scratch = _scratch_beside(folder)
        scratch.mkdir()
        try:
            fill(scratch)
            give_usual_rights(scratch)
            sync_all(scratch)
            scratch.rename(folder)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        sync(folder.parent)
    return folder


def remove_folder(folder: Path) -> None:
    """Remove a folder so that a process which is killed meanwhile leaves it whole, or as a scrap.

    Of a link the link alone goes.
    """
    if folder.is_symlink():
        folder.unlink()
        return
    old = folder.with_name(f".{folder.name}.{owned_tag()}{OLD_SUFFIX}")
    folder.rename(old)
    shutil.rmtree(old, ignore_errors=True)


def read_bounded(path: Path, *, max_bytes: int) -> bytes:
    """Read a file that a stranger may have put there: a regular one of bounded size, or a link to one.

    A pipe is not waited for, and a device that never ends is not read.

    Raises:
        FileNotFoundError: no such file.
        OSError: one that may not be read, or a link to itself.
        ValueError: anything but a regular file, or one that is too large.
    """
    with open(_open_regular(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(max_bytes + 1) if size <= max_bytes else b""  # else no memory is taken for it
    if max(size, len(data)) > max_bytes:  # it may have grown meanwhile
        raise ValueError(f"it has more than {max_bytes} bytes")
    return data


def _open_regular(path: Path) -> int:
    """Open a regular file, or a link to one, for reading.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is anything else.
    """
    # Not blocking, or opening a pipe would wait. Judged once it is open: nobody can exchange it between the two.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ValueError("it is not a regular file")
    return handle


def copy_folder(folder: Path, target: Path, *, safe: str = "") -> None:
    """Copy a folder that may hold anything: its regular files and its folders, and what links to them lead to.

    Links may lead within the folder only; those of a snapshot in the Hub's cache also to the cache's files of that
    repository, which is how it is built.

    Args:
        folder: What is copied.
        target: Not there yet.
        safe: What is kept where there is no space, for the message.

    Raises:
        StorageError: there is no space for a copy.
        OSError: a file that may not be read, or a link that leads nowhere.
        ValueError: anything else in the place of a file, such as a pipe or a device, or links that lead in a circle or
            out of the folder: what is there is not the folder's, and may be private.
    """
    here = folder.resolve()
    roots = (here, here.parents[1] / "blobs") if here.parent.name == "snapshots" else (here,)
    _copy_folder(folder, target, safe, tuple(root.resolve() for root in roots), ())


def _copy_folder(folder: Path, target: Path, safe: str, roots: tuple[Path, ...], above: tuple[Path, ...]) -> None:
    here = folder.resolve()
    if here in above:
        raise ValueError(f"{folder} is a link to a folder that it lies in")
    _check_is_within(folder, roots)
    with storage_explained(target, safe=safe):
        target.mkdir(parents=True)
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            _copy_folder(path, target / path.name, safe, roots, (*above, here))
        else:
            _copy_file(path, target / path.name, safe, roots)


def _check_is_within(path: Path, roots: tuple[Path, ...]) -> None:
    """Refuse a link that leads out of all of these folders.

    Raises:
        ValueError: it does.
    """
    if not any((leads_to := path.resolve()).is_relative_to(root) for root in roots):
        raise ValueError(f"{path} is a link to {leads_to}, outside the folder")


def _copy_file(path: Path, target: Path, safe: str, roots: tuple[Path, ...]) -> None:
    """Copy a regular file; no more of it than it has when it is opened."""
    try:
        handle = _open_regular(path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    with open(handle, "rb") as source:
        _check_is_within(path, roots)
        size = os.fstat(source.fileno()).st_size
        with storage_explained(target, needed=size, safe=safe), target.open("xb") as copy:
            while size > 0 and (part := source.read(min(size, _PART))):
                copy.write(part)
                size -= len(part)


def why_unreadable(path: Path) -> str | None:
    """Why this user may not read an existing file or folder, in words; None where it may be read or does not exist.

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
            _give_rights(path, folder_mode if path.is_dir() else file_mode)


def _give_rights(path: Path, mode: int) -> None:
    """Set a file's or folder's rights; on a file system that has none of its own they are the same for all files."""
    try:
        path.chmod(mode)
    except OSError as error:
        if error.errno not in _NO_RIGHTS:
            raise


def remove_scraps(folder: Path) -> None:
    """Remove what killed processes left unfinished in a folder; what a living one writes stays."""
    _remove_scraps(folder, ".")


def _remove_scraps(folder: Path, prefix: str) -> None:
    for name in os.listdir(folder) if folder.is_dir() else ():
        if name.startswith(prefix) and name.endswith((SCRATCH_SUFFIX, OLD_SUFFIX)) and is_abandoned(folder / name):
            scrap = folder / name
            if scrap.is_dir() and not scrap.is_symlink():
                shutil.rmtree(scrap, ignore_errors=True)
            else:
                with suppress(OSError):  # it is in nobody's way
                    scrap.unlink(missing_ok=True)


def _scratch_beside(path: Path) -> Path:
    """A hidden name that nobody else uses and that names this process, on the same file system."""
    return path.with_name(f".{path.name}.{owned_tag()}{SCRATCH_SUFFIX}")


def _make_empty(path: Path) -> int:
    """Make an empty file; the mode it has got, so that the umask (and a folder's own rules) need not be asked."""
    with path.open("xb") as file:
        return os.fstat(file.fileno()).st_mode & 0o777


def sync_all(folder: Path) -> None:
    """Flush a folder and all that is below it to the disk itself; what takes its place then is whole after a loss of
    power too.

    Raises:
        OSError: there is no space for it.
    """
    for path in (*folder.rglob("*"), folder):
        sync(path)


def sync(path: Path) -> None:
    """Flush a file or folder to the disk itself; a system that cannot do so is left alone.

    Folders cannot be flushed on Windows, on some network file systems, and where this user may not list them.

    Raises:
        OSError: there is no space for it, which some file systems notice only now, or the disk fails.
    """
    is_folder = path.is_dir()
    if os.name == "nt" and is_folder:
        return
    try:
        file = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
        try:
            os.fsync(file)
        finally:
            os.close(file)
    except OSError as error:
        if error.errno in _CANNOT_FLUSH or (is_folder and error.errno in _CANNOT_FLUSH_FOLDERS):
            return
        if not is_known(error):  # whatever it is, what was written is not safe
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path)) from error
        raise


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal; it is read in parts.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
