"""Where data sets of the Hub are kept on this computer: what is not there offline, and a disk that is full."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hf_free.errors import DatasetError, StorageError
from hf_free.evaluation.dataset_misfits import chain_of
from hf_free.runtime.storage import storage_problem

_SPACE = {getattr(errno, name) for name in ("ENOSPC", "EDQUOT") if hasattr(errno, name)}


def caches(cache_dir: str | None = None) -> list[Path]:
    """The folders in which the files of a data set on the Hub lie, and what `datasets` makes of them."""
    import datasets.config

    from hf_free.hub.dataset_files import usual_cache

    usual = (datasets.config.HF_DATASETS_CACHE, datasets.config.DOWNLOADED_DATASETS_PATH, usual_cache())
    return [Path(folder) for folder in (*([cache_dir] if cache_dir else []), *usual)]


def is_local(source: str) -> bool:
    """Whether a data set is a file or folder of this computer, with a configuration behind it or not."""
    return Path(source).exists() or Path(source.rpartition(":")[0] or "?").exists()


def not_in_cache(source: str, cache_dir: str | None = None) -> DatasetError | None:
    """The message for a data set that the Hub may not be asked for; None where it may, or lies elsewhere."""
    from hf_free.hub.dataset_files import is_offline, usual_cache

    if not is_offline() or is_local(source):
        return None
    return DatasetError(
        f"data set {source!r} is not in the cache {cache_dir or usual_cache()}, not all of it or not in this version, "
        "and the Hub is not asked (--offline, HF_HUB_OFFLINE)",
        allowed="data sets that were fetched before, with the same cache; files and folders of this computer",
        action="leave --offline out and unset HF_HUB_OFFLINE, so that it is fetched; or name the cache that it is in "
        "(--cache-dir, HF_HOME)",
    )


@contextmanager
def full_cache_named(source: str, cache_dir: str | None = None) -> Iterator[None]:
    """Within the block a full disk is a `StorageError`, also behind an error of `datasets`; where the system names no
    file, it is that of a cache: the fullest.

    Raises:
        StorageError: with that folder and its space.
    """
    try:
        yield
    except Exception as error:
        full = next((one for one in chain_of(error) if isinstance(one, OSError) and one.errno in _SPACE), None)
        if full is None or is_local(source):
            raise
        spaces = {folder: _free(folder) for folder in caches(cache_dir)}
        place = min(spaces, key=spaces.__getitem__) / source.replace("/", "--")
        named = None if full.filename is None else Path(str(full.filename))
        problem = storage_problem(full, named or place, safe="--cache-dir, or HF_HOME, names another cache")
        raise problem or StorageError(str(full)) from full


def _free(folder: Path) -> float:
    """Bytes that are free where a folder is or would be."""
    for place in (folder, *folder.absolute().parents):
        try:
            return shutil.disk_usage(place).free
        except OSError:
            continue
    return float("inf")
