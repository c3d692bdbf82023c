"""Data sets whose pictures lie in archives (zip, tar): what may be read of them, and what to do about the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

from hf_free.errors import DatasetError
from hf_free.runtime.given import short_form
from hf_free.runtime.text import listed

_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".7z", ".rar")
_TABLES = (".parquet", ".arrow", ".csv", ".tsv", ".jsonl", ".lance", ".h5")
"""Endings of files beside which an archive may hold no more than what they do."""

_OF_ARCHIVES = ("__key__", "__url__")
"""Columns that `datasets` adds to what a tar holds."""


def archives_among(names: Iterable[str]) -> list[str]:
    """The archives among a data set's files; none where a table lies beside them, which may be all that is needed."""
    plain = [name.casefold() for name in names]
    if any(name.endswith(_TABLES) for name in plain):
        return []
    return sorted(name for name in names if name.casefold().endswith(_ARCHIVES))


def archives_problem(source: str, archives: Iterable[str], *, on_hub: bool) -> DatasetError:
    """The message for a data set of which no pictures with their classes can be read, since it is in archives.

    Args:
        source: The data set, as it was named.
        archives: Names of the archives, at least one.
        on_hub: Whether it has to be downloaded before it is unpacked.
    """
    names = [short_form(PurePath(name).name) for name in archives]
    name = source.partition(":")[0]
    fetch = f"hf download {name} --repo-type dataset --local-dir FOLDER; " if on_hub else ""
    return DatasetError(
        f"{source} holds archives ({listed(names)}), in which no pictures with their classes are found",
        allowed="Parquet files, or pictures in a folder per class"
        + ("; of archives only tar files of WebDataset, with N.png beside N.cls" if on_hub else ""),
        action=f"{fetch}unpack them into a folder per class, as FOLDER/cat/1.jpg, and give that folder",
    )


def check_says_classes(splits: Mapping[str, Any], source: str, archives: list[str]) -> None:
    """Refuse what `datasets` has read out of archives where it is pictures only, or names of pictures.

    Args:
        splits: What was read, by split.
        source: The data set, as it was named.
        archives: Its archives.

    Raises:
        DatasetError: with the archives.
    """
    for data in splits.values():
        pictures = [name for name, of in (data.features or {}).items() if type(of).__name__ == "Image"]
        others = [name for name in data.features or {} if name not in (*pictures, *_OF_ARCHIVES)]
        if not others or any(_lies_in_archive(data, name) for name in pictures):
            raise archives_problem(source, archives, on_hub=True)


def _lies_in_archive(data: Any, column: str) -> bool:
    """Whether the first row has no bytes, but the address of a picture within an archive."""
    import datasets

    rows = data.cast_column(column, datasets.Image(decode=False)).select_columns([column])
    first: Mapping[str, object] = next(iter(rows), {})
    held = first.get(column)
    return isinstance(held, dict) and not held.get("bytes") and "::" in str(held.get("path"))
