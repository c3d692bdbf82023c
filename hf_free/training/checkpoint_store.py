"""The checkpoints of a run: each written whole into a folder of its own, the last few kept, the newest whole found."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from hf_free.errors import RunError
from hf_free.runtime.files import new_folder, remove_folder, remove_scraps
from hf_free.training.manifest import Manifest, files_of, refuse_unknown_format

_NAME = re.compile(r"(\d{5,})-step-\d+")


_GONE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)
"""Errors of a file that is not there, or of something else in its place; after any other it may be whole."""


class WholeCheckpoint(NamedTuple):
    """A checkpoint whose files are all there, and its manifest."""

    folder: Path
    manifest: Manifest
    passed_over: tuple[str, ...] = ()
    """Newer ones that are damaged, with the reason."""


def refuse_links(*paths: Path) -> None:
    """Refuse links in the place of what a run writes into, removes or goes on from: it would all happen elsewhere.

    Raises:
        RunError: with the first of them.
    """
    for path in paths:
        if path.is_symlink():
            raise RunError(
                f"{path} is a link",
                allowed=f"a folder or a file of {path.parent} itself: hf-free would write, read and remove elsewhere",
                action="move what it leads to here in its place; an --output may be a link as a whole",
            )


class CheckpointStore:
    """Checkpoints in one folder, numbered in the order in which they were written.

    Args:
        root: The folder; made with the first checkpoint.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def folders(self) -> list[Path]:
        """Those that are there, the newest first; not all need to be whole.

        Raises:
            RunError: a link is in the place of the folder.
        """
        refuse_links(self.root)
        if not self.root.is_dir():
            return []
        found = [(match, path) for path in self.root.iterdir() if (match := _NAME.fullmatch(path.name))]
        return [path for _, path in sorted(found, key=lambda pair: int(pair[0][1]), reverse=True)]

    def write(
        self, fill: Callable[[Path], None], about: Manifest, *, keep: int = 1, needed: int | None = None
    ) -> Path:
        """Write a checkpoint; older ones are removed only once it is whole and on disk.

        Args:
            fill: Writes the files, of all ranks, into an empty folder.
            about: The manifest, still without files.
            keep: How many are kept.
            needed: Bytes that it takes, for the message where there is no space.

        Returns:
            Its folder.

        Raises:
            StorageError: it cannot be written; the older ones are as they were.
        """

        def whole(folder: Path) -> None:
            fill(folder)
            replace(about, files=files_of(folder)).write(folder)

        last = self.folders()
        number = 1 + (int(last[0].name.partition("-")[0]) if last else 0)
        written = new_folder(self.root / f"{number:05d}-step-{about.step}", whole, needed=needed)
        for old in self.folders()[keep:]:
            remove_folder(old)
        return written

    def newest(self, *, contents: bool = False) -> WholeCheckpoint | None:
        """The newest whole one; None where there is none.

        Args:
            contents: Whether hashes are compared, and not only sizes; takes about a second for a gigabyte.

        Raises:
            RunError: it is of a later hf-free, cannot be read for the moment, or a link is in the place of the folder.
        """
        passed_over: list[str] = []
        for folder in self.folders():
            try:
                if folder.is_symlink():
                    raise ValueError("a link is in the place of the checkpoint")
                manifest = Manifest.read(folder)
                refuse_unknown_format(manifest, folder)
                problem = manifest.problem(folder, contents=contents)
            except OSError as error:
                if error.errno not in _GONE:
                    raise RunError(
                        f"the checkpoint {folder} cannot be read: {_reason(error)}",
                        allowed="files that this user may read, on a disk that answers",
                        action="try again once it can be read, or move it away to go on from the one before",
                    ) from None
                problem = f"its manifest cannot be read: {_reason(error)}"
            except ValueError as error:
                problem = f"its manifest cannot be read: {str(error)[:200]}"
            if problem is None:
                return WholeCheckpoint(folder, manifest, tuple(passed_over))
            passed_over.append(f"{folder.name} is damaged ({problem})")
        return None

    def sweep(self) -> None:
        """Remove what killed processes left unfinished.

        Raises:
            RunError: a link is in the place of the folder.
        """
        refuse_links(self.root)
        remove_scraps(self.root)


def _reason(error: OSError) -> str:
    """What the system says of a file, with the file's name and without the number of the error."""
    said = (error.strerror or str(error)).lower()
    return f"{Path(os.fsdecode(error.filename)).name}: {said}" if isinstance(error.filename, str | bytes) else said
