"""A data set opened: every split of Parquet files, of a folder of pictures, or of a `datasets` id."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from hf_free.errors import DatasetError
from hf_free.learner.decoding import is_picture_file

T = TypeVar("T")


def open_local(path: Path, scratch: str) -> dict[str, Any]:
    """Every split of a local data set, streamed, so that no cache can be stale, full or read-only.

    Args:
        path: A Parquet file, or a folder of Parquet files or pictures.
        scratch: Folder for the lock files that even streaming makes; it has to outlive the reading.

    Raises:
        DatasetError: nothing that can be read there.
    """
    import datasets

    def load() -> dict[str, Any]:
        if path.is_file():
            if path.suffix.lower() != ".parquet":
                raise DatasetError(f"{path} is no Parquet file", allowed="a .parquet file, a folder")
            files = {"train": str(path)}
            return dict(datasets.load_dataset("parquet", data_files=files, streaming=True, cache_dir=scratch))
        has_files = next((p for p in path.rglob("*") if is_picture_file(p) or p.suffix.lower() == ".parquet"), None)
        if has_files is None:
            raise DatasetError(f"{path} holds no data", allowed="Parquet files, or pictures in a folder a class")
        return dict(datasets.load_dataset(str(path), streaming=True, cache_dir=scratch))

    return read_or_explain(load, str(path))


def open_hub(source: str, revision: str | None, token: str | None, cache_dir: str | None) -> dict[str, Any]:
    """Every split of a data set on the Hub, downloaded into the cache.

    Raises:
        DatasetError: no such data set, or none that can be read.
        HubError: a Hub that cannot be reached.
    """
    import datasets

    from hf_free.hub.client import check_dataset

    if source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise DatasetError(f"there is no file or folder {source}", action="check the path")
    name, _, config = source.partition(":")
    check_dataset(name, revision=revision, token=token)  # datasets itself retries for longer than anyone waits
    options = {"revision": revision, "token": token, "cache_dir": cache_dir}
    return read_or_explain(lambda: dict(datasets.load_dataset(name, config or None, **options)), source)


def read_or_explain(load: Callable[[], T], source: str) -> T:
    """Call a function of `datasets` without its remark on data cards, and turn its many errors into one kind.

    Raises:
        DatasetError: whatever went wrong.
    """
    import datasets.exceptions
    import pyarrow
    from huggingface_hub.errors import HfHubHTTPError

    expected = (datasets.exceptions.DatasetsError, HfHubHTTPError, OSError, ValueError, pyarrow.ArrowException)
    try:
        with _no_remark_on_cards():
            return load()
    except datasets.exceptions.DatasetNotFoundError as error:
        raise DatasetError(
            f"data set {source!r} is not to be had: {_first_line(error)}",
            allowed="a datasets id org/name, a Parquet file, or a folder of Parquet files or pictures",
            action="check the name; for a private or gated one give a token (hf auth login, or --token)",
        ) from None
    except expected as error:
        raise DatasetError(
            f"data set {source!r} cannot be read: {type(error).__name__}: {_first_line(error)}",
            allowed="a datasets id org/name[:config], a Parquet file, or a folder of Parquet files or pictures",
            action="check the path or the connection",
        ) from None


@contextmanager
def _no_remark_on_cards() -> Iterator[None]:
    """Without "Repo card metadata block was not found": a data set need not have a card, and nobody can act on it."""
    logger = logging.getLogger("huggingface_hub.repocard")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _first_line(error: Exception) -> str:
    """The first line of an error's text, of bearable length."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
