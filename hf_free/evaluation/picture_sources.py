"""Pictures as a user names them: folders, files, patterns, and a list that comes line by line."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hf_free.errors import DatasetError
from hf_free.evaluation.datasets import load_folder_images

LIST = "-"
"""Stands for a list of files, one per line."""


@dataclass(frozen=True)
class NamedPicture:
    """A picture file and what a row calls it."""

    path: Path
    name: str


def find_pictures(sources: Sequence[str], lines: Iterable[str] = ()) -> list[NamedPicture]:
    """The picture files that some sources name, in their order, each once.

    One folder alone gives names below it; else a picture is called as it was given, or found below what was given.

    Args:
        sources: Folders, with all their sub-folders; files; patterns such as `new/*.jpg` and `**/*.png`; `-` for the
            lines.
        lines: Paths of files or folders, one per line; blank lines are passed over.

    Raises:
        DatasetError: a source that is not there, a pattern that no file has, or no picture at all.
    """
    if not sources:
        raise DatasetError("no pictures are named", action="give folders, files, patterns or - for a list")
    found: dict[Path, NamedPicture] = {}
    for source in sources:
        if source == LIST:
            # a program on Windows may begin its output with a byte order mark
            given = [text for line in lines if (text := line.removeprefix("\ufeff").rstrip("\r\n")).strip()]
            if not given:
                raise DatasetError("the list of pictures is empty", allowed="one path per line")
        else:
            given = [source] if Path(source).exists() else sorted(glob.glob(source, recursive=True))
        if not given:
            is_pattern = glob.has_magic(source)
            problem = f"no file is named as {source}" if is_pattern else f"{source} is not a folder or a file"
            raise DatasetError(problem, action="give folders, files, patterns such as 'new/*.jpg', or - for a list")
        for text in given:
            for picture in _below(Path(text), is_alone=len(sources) == len(given) == 1 and source != LIST):
                found.setdefault(picture.path, picture)
    return list(found.values())


def _below(path: Path, *, is_alone: bool) -> list[NamedPicture]:
    """A file itself, which need not be there, or the pictures of a folder."""
    if not path.is_dir():
        return [NamedPicture(path, path.as_posix())]
    paths = load_folder_images(path).paths
    return [NamedPicture(found, (found.relative_to(path) if is_alone else found).as_posix()) for found in paths]
