"""Git-lfs pointers: what a clone without git-lfs holds in the place of large files."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from hf_free.runtime.files import read_bounded

POINTER_START = b"version https://git-lfs.github.com/spec/"
"""How every pointer begins (github.com/git-lfs/git-lfs, docs/spec.md)."""

WAY_OUT = "run git lfs pull in the folder that was cloned, or download the repository with hf download"
"""What to do about one."""

_MOST_BYTES = 1024
"""The specification's bound."""


def is_pointer(path: Path) -> bool:
    """Whether a file is a pointer; a file that cannot be read is none."""
    with suppress(OSError, ValueError):
        return read_bounded(path, max_bytes=_MOST_BYTES).startswith(POINTER_START)
    return False
