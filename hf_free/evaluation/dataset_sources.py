"""A data set opened: pictures in folders, or every split of Parquet files or of a `datasets` id.

Folders of pictures are read by `hf_free.evaluation.picture_folder`, local ones and those of a Hub, since `datasets`
takes any file or folder name with a word such as `test` in it for a split and loses the rest without a word.
"""

from __future__ import annotations

import glob
import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import yaml

from hf_free.config.yaml_reading import as_texts, read_written
from hf_free.data.decoding import is_picture_file
from hf_free.errors import DatasetError, HfFreeError
from hf_free.evaluation.dataset_archives import archives_among, archives_problem, check_says_classes
from hf_free.evaluation.dataset_caches import caches, full_cache_named, not_in_cache
from hf_free.evaluation.dataset_card import CARDS, check_cards
from hf_free.evaluation.dataset_misfits import chain_of, misfit_of
from hf_free.evaluation.parquet_files import read_plainly
from hf_free.evaluation.picture_folder import (
    SPLIT_WORDS,
    PictureFolder,
    is_leftover,
    read_picture_folder,
    visible_files,
)
from hf_free.runtime.files import read_bounded
from hf_free.runtime.git_lfs import WAY_OUT, is_pointer
from hf_free.runtime.given import real_path
from hf_free.runtime.storage import storage_problem

logger = logging.getLogger(__name__)

T = TypeVar("T")

_SHARD = re.compile(r"(\w+(?:\.\w+)*)-\d{5}-of-\d{5}.*", re.DOTALL)  # as `datasets` names the parts of a split
_MAX_CARD_BYTES = 2**20
_TRIES = 3  # of a download that breaks off
_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")  # columns of pictures by `file_name`
_TABLES = (".parquet", ".arrow", ".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".lance", ".h5", ".py")
"""Endings of files in which a data set on the Hub may hold its pictures; loose pictures beside such files only
illustrate it."""


@dataclass(frozen=True)
class Tables:
    """Splits of `datasets` by name, or `ParquetSplit`; `is_streamed` where they are read straight from the files."""

    splits: dict[str, Any]
    is_streamed: bool
    within: tuple[Path, ...] = ()
    """Folders in which files that rows name have to lie."""


def open_data(
    source: str,
    scratch: str,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | None = None,
    by_column: bool = False,
) -> PictureFolder | Tables:
    """Open a data set wherever it lies; a local one is streamed, so that no cache can be stale, full or read-only.

    Args:
        source: A Parquet file, a folder of Parquet files or pictures, `./folder:configuration`, or a `datasets` id
            `org/name[:configuration]`. A local path never asks the network.
        scratch: Folder for the lock files that even streaming makes; it has to outlive the reading.
        revision: Revision of a Hub data set.
        token: Access token for the Hub.
        cache_dir: Folder of the `datasets` cache, for Hub data sets.
        by_column: Whether a column was asked for: then `metadata.csv` gives the classes rather than folders.

    Raises:
        DatasetError: no such data set, one that cannot be read, or one of which a configuration has to be named.
        HubError: a Hub that cannot be reached, has no such revision, or sends damaged files.
    """
    path = Path(source)
    if revision is not None and not revision.strip():
        raise DatasetError(
            f"the revision {revision!r} of the data set {source}", allowed="a branch, a tag or a commit"
        )
    if revision is not None and (path.exists() or Path(source.rpartition(":")[0] or "?").is_dir()):
        raise DatasetError(
            f"the data set {source} lies on this computer, and has no revision {revision!r}",
            allowed="a revision of a data set on the Hub",
            action="leave --dataset-revision out",
        )
    if path.exists():
        opened = _open_local(path, "", source, scratch, by_column=by_column)
        return _only_within(opened, path if path.is_dir() else path.parent)
    head, colon, configuration = source.rpartition(":")
    if colon and head and Path(head).is_dir():
        opened = _open_local(Path(head), configuration, source, scratch, by_column=by_column)
        return _only_within(opened, Path(head))
    return _only_within(_open_hub(source, scratch, revision, token, cache_dir), *caches(cache_dir))


def _only_within(opened: PictureFolder | Tables, *folders: Path) -> PictureFolder | Tables:
    """Tables whose rows may name files in these folders only; pictures in folders name none."""
    return replace(opened, within=folders) if isinstance(opened, Tables) else opened


def _check_are_no_pointers(path: Path) -> None:
    """Refuse what a clone without git-lfs holds in the place of Parquet files.

    Raises:
        DatasetError: with the first of them.
    """
    for file in [path] if path.is_file() else (*path.glob("*.parquet"), *path.glob("*/*.parquet")):
        if is_pointer(file):
            raise DatasetError(f"{file} is a git-lfs pointer, not the file itself", action=WAY_OUT)


def _open_local(path: Path, wanted: str, source: str, scratch: str, *, by_column: bool) -> PictureFolder | Tables:
    _check_are_no_pointers(path)
    if path.is_file():
        if packed := archives_among([path.name]):
            raise archives_problem(source, packed, on_hub=False)
        if path.suffix.lower() != ".parquet":
            raise DatasetError(f"{path} is not a Parquet file", allowed="a .parquet file, a folder")
        if (plain := read_plainly({"train": [path]})) is not None:
            return Tables(dict(plain), is_streamed=True)
        return _tables(source, "parquet", scratch, data_files={"train": _exactly(path)})
    described = _configurations_of_card(path)
    if described and (wanted in described or not wanted):
        chosen = wanted or _only_or_default(described)
        if not chosen:
            raise _choose(source, str(path), list(described))
        folder = described[chosen].get("data_dir")
        if "data_files" in described[chosen] or not isinstance(folder, str):
            return _tables(source, str(path), scratch, name=chosen)
        return _open_folder(_inside(path, folder, source), source, scratch, by_column=by_column)
    if not wanted:
        return _open_folder(path, source, scratch, by_column=by_column)
    if is_leftover(wanted) or not (path / wanted).is_dir():
        folders = [child.name for child in sorted(path.iterdir()) if child.is_dir() and not is_leftover(child.name)]
        names = list(described) or folders
        raise DatasetError(
            f"{path} has no configuration {wanted!r}",
            allowed=", ".join(names[:20]) or "none: it has neither configurations nor folders",
            action=f"e.g. {path}:{names[0]}" if names else f"give {path}",
        )
    return _open_folder(path / wanted, source, scratch, by_column=by_column)


def _open_folder(path: Path, source: str, scratch: str, *, by_column: bool) -> PictureFolder | Tables:
    """A folder without a card's configurations: Parquet files, pictures in class folders, or pictures and a table."""
    files = visible_files(path) if path.is_dir() else []
    tables = [file for file in files if file.suffix.lower() == ".parquet" and file.name not in _METADATA]
    metadata = [file for file in files if file.name in _METADATA]
    loose = [file for file in files if is_picture_file(file)]
    if not files:
        raise DatasetError(f"{path} holds no data", allowed="Parquet files, or pictures in a folder per class")
    pictures = read_picture_folder(path)
    if not tables and not loose and (packed := archives_among([file.name for file in files])):
        raise archives_problem(source, packed, on_hub=False)
    if not tables and not loose:
        but = f", but {'; '.join(pictures.left_out)}" if pictures.left_out else ""
        raise DatasetError(f"{path} holds no data{but}", allowed="Parquet files, or pictures in a folder per class")
    classes = {file.label for file in pictures.files if file.label}
    if tables and len(classes) < 2:
        if loose:
            logger.warning("%s: passed over %d pictures beside the Parquet files", source, len(loose))
        return _open_parquet(path, tables, source, scratch)
    if metadata and (by_column or not classes):
        # one split of all files, since their names say nothing
        listed = [_exactly(file) for file in (*loose, *metadata)]
        return _tables(source, "imagefolder", scratch, data_files={"train": listed}, drop_labels=False)
    if tables:
        logger.warning("%s: passed over %d Parquet files beside the class folders", source, len(tables))
    if (inner := _only_folder(pictures)) is not None:
        logger.warning("%s: all its class folders lie in %s, which is read in its place", source, inner.name)
        return _open_folder(inner, source, scratch, by_column=by_column)
    _refuse_sets_as_classes(pictures, source)
    return pictures


def _only_folder(pictures: PictureFolder) -> Path | None:
    """The only folder with pictures, if it holds several class folders or splits rather than pictures of one class."""
    folders = {file.label for file in pictures.files if file.label}
    if len(folders) != 1 or pictures.splits != [""]:
        return None
    inner = read_picture_folder(pictures.root / folders.pop())
    holds_classes = any(inner.splits) or len({file.label for file in inner.files if file.label}) > 1
    return inner.root if holds_classes and all(file.label for file in inner.files) else None


def _open_parquet(path: Path, files: Sequence[Path], source: str, scratch: str) -> Tables:
    """Parquet files by split: by the names that `datasets` gives to parts, or a word for a split in the name."""
    first = {file.relative_to(path).parts[0] if file.parent != path else "" for file in files}
    sets = sorted(first)
    if len(sets) > 1 and "" not in first and not any(_split_of_words(name) for name in sets):
        raise _choose(source, str(path), sets)
    groups: dict[str, list[Path]] = {}
    for file in files:
        groups.setdefault(_split_of(file.relative_to(path)), []).append(file)
    unnamed = groups.pop("", [])
    if unnamed and groups:
        names = ", ".join(file.name for file in unnamed[:5])
        logger.warning("%s: passed over %d Parquet files that name no split (%s)", source, len(unnamed), names)
    groups = groups or {"train": unnamed}
    if (plain := read_plainly(groups, path)) is not None:
        return Tables(dict(plain), is_streamed=True)
    return _tables(
        source, str(path), scratch, data_files={name: list(map(_exactly, of)) for name, of in groups.items()}
    )


def _split_of(file: Path) -> str:
    """The split that a Parquet file's name says, or its folders'; "" for none."""
    if shard := _SHARD.fullmatch(file.stem):
        return shard[1]
    return next((found for part in (file.stem, *reversed(file.parts[:-1])) if (found := _split_of_words(part))), "")


def _split_of_words(name: str) -> str:
    words = re.split(r"[-._ 0-9]+", name.casefold())
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), "")


def _refuse_sets_as_classes(pictures: PictureFolder, source: str) -> None:
    """Folders that each hold splits are data sets of their own, not classes."""
    folders = sorted({file.label for file in pictures.files if file.label and not file.split})
    inner = [read_picture_folder(pictures.root / name) for name in folders]
    if inner and all(any(split for split in folder.splits) for folder in inner):
        raise _choose(source, str(pictures.root), folders)


def _tables(source: str, builder: str, scratch: str, **options: Any) -> Tables:
    import datasets

    if Path(builder).is_dir():  # whose card is read, whatever else is given
        check_cards(Path(builder), source)

    def load() -> dict[str, object]:
        return dict(datasets.load_dataset(builder, streaming=True, cache_dir=scratch, **options))

    return Tables(read_or_explain(load, source), is_streamed=True)


def _exactly(path: Path) -> str:
    """A path in which no character stands for others."""
    return glob.escape(str(path.absolute()))


def _configurations_of_card(path: Path) -> dict[str, dict[str, object]]:
    """The configurations that a folder's README.md lists in its YAML block, by name."""
    try:
        text = read_bounded(path / "README.md", max_bytes=_MAX_CARD_BYTES).decode("utf-8-sig")
    except (OSError, ValueError):
        return {}
    block = re.match(r"---\s*\n(.*?)\n---\s*(?:\n|$)", text, re.DOTALL)
    try:
        card = as_texts(read_written(block[1])) if block else None
    except (yaml.YAMLError, RecursionError):
        return {}
    listed = card.get("configs") if isinstance(card, dict) else None
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    return {str(entry.get("config_name", "default")): entry for entry in entries}


def _only_or_default(described: dict[str, dict[str, object]]) -> str:
    """The configuration that is taken where none is named, "" where one has to be."""
    marked = [name for name, entry in described.items() if entry.get("default") == "true"]
    if marked or "default" in described:
        return [*marked, "default"][0]
    return next(iter(described)) if len(described) == 1 else ""


def _choose(source: str, name: str, configurations: Sequence[str]) -> DatasetError:
    listed = ", ".join(configurations[:20]) + (", ..." if len(configurations) > 20 else "")
    return DatasetError(
        f"{source} holds {len(configurations)} data sets (configurations)",
        allowed=f"one of {listed}",
        action=f"name it after a colon: {name}:{configurations[0]}",
    )


def _open_hub(
    source: str, scratch: str, revision: str | None, token: str | None, cache_dir: str | None
) -> PictureFolder | Tables:
    """A data set on the Hub, downloaded into the cache."""
    from hf_free.hub.dataset_files import fetch_card, files_of_dataset
    from hf_free.hub.session import bounded_listings

    name, _, wanted = source.partition(":")
    _check_id(name, source)
    if name.startswith((".", "/", "~")) or name.endswith("/") or name.count("/") > 1:
        raise DatasetError(f"there is no file or folder {source}", action="check the path")
    # datasets itself retries for longer than anyone waits
    found = files_of_dataset(name, revision=revision, token=token)
    files = found.names or _cached_files(name, revision, cache_dir)
    if _is_picture_folder(files):
        return _open_hub_pictures(name, wanted, source, scratch, revision, token, cache_dir)
    revision = found.commit or revision  # whose card is checked is opened: another commit may name other files
    options = {"revision": revision, "token": token, "cache_dir": cache_dir}
    for card in CARDS:
        fetch = partial(fetch_card, name, card, revision=revision, token=token, cache_dir=cache_dir)
        if (path := read_or_explain(partial(_again, fetch), source, cache_dir)) is not None:
            check_cards(path.parent, source, (card,))
    packed = archives_among(files)
    try:
        with bounded_listings() as listing:
            read = partial(_again, partial(_read_intact, name, wanted, options))
            opened = Tables(read_or_explain(read, source, cache_dir), False)
    except DatasetError as error:
        if packed and isinstance(error, _UnreadableError):
            raise archives_problem(source, packed, on_hub=True) from None
        names = _configurations_on_hub(name, revision, token) if files and not listing.open_since else []
        if wanted not in names and (len(names) > 1 or (wanted and names)):
            raise _choose(
                source if not wanted else f"{name} has no configuration {wanted!r}: it", name, names
            ) from None
        raise
    if packed:
        check_says_classes(opened.splits, source, packed)
    return opened


def _check_id(name: str, source: str) -> None:
    """Refuse an id with a revision behind it, as models have theirs, and the address of a page.

    Raises:
        DatasetError: with what to write.
    """
    from hf_free.hub.names import id_in_address

    named = id_in_address(source)
    repo_id, at, revision = (named or name).partition("@")
    if named is None and not at:
        return
    behind = "" if named else source[len(name) :]  # a configuration
    apart = f"; evaluate takes --dataset-revision {revision}, Python revision={revision!r}" if revision else ""
    raise DatasetError(
        f"the data set {source!r} is the address of a page" if named else f"the data set {source!r} has an @",
        allowed="org/name[:configuration]; the revision of a data set is given apart",
        action=f"write {repo_id}{behind}{apart}",
    )


def _read_intact(name: str, configuration: str, options: Mapping[str, str | None]) -> dict[str, object]:
    """The splits of a data set on the Hub, as `datasets.load_dataset` gives them; but what it makes of the files is
    kept, so that they are compared with their hashes before."""
    import datasets

    from hf_free.hub.dataset_files import make_intact

    token = options.get("token")
    builder = datasets.load_dataset_builder(name, configuration or None, **options)
    if builder.config.data_files and not Path(builder.cache_dir).exists():
        manager = datasets.DownloadManager(download_config=datasets.DownloadConfig(token=token))
        for paths in manager.download(builder.config.data_files).values():
            for path in paths:
                make_intact(Path(path), token=token)
    builder.download_and_prepare()
    return dict(builder.as_dataset())


def _configurations_on_hub(name: str, revision: str | None, token: str | None) -> list[str]:
    import datasets

    try:
        return read_or_explain(lambda: datasets.get_dataset_config_names(name, revision=revision, token=token), name)
    except DatasetError:
        return []


def _is_picture_folder(files: Sequence[str]) -> bool:
    """Whether a data set of the Hub is pictures in folders and nothing else that could hold its data."""
    names = [PurePosixPath(file) for file in files if not any(map(is_leftover, PurePosixPath(file).parts))]
    if any(path.suffix.lower() in _TABLES or path.name in _METADATA for path in names):
        return False
    return len({path.parent for path in names if is_picture_file(path) and len(path.parts) > 1}) > 1


def _cached_files(name: str, revision: str | None, cache_dir: str | None) -> list[str]:
    """The files of a data set that are in the cache, where the Hub must not be asked; otherwise none."""
    from hf_free.hub.dataset_files import cached_dataset

    folder = cached_dataset(name, revision=revision, cache_dir=cache_dir)
    return [] if folder is None else [file.relative_to(folder).as_posix() for file in visible_files(folder)]


def _open_hub_pictures(
    name: str, wanted: str, source: str, scratch: str, revision: str | None, token: str | None, cache_dir: str | None
) -> PictureFolder | Tables:
    from hf_free.hub.dataset_files import fetch_dataset, make_intact

    def fetch() -> Path:
        folder = fetch_dataset(name, revision=revision, token=token, cache_dir=cache_dir)
        for file in visible_files(folder):
            make_intact(file, token=token)
        return folder

    folder = read_or_explain(partial(_again, fetch), source, cache_dir)
    return _open_local(folder, wanted, source, scratch, by_column=False)


def _inside(path: Path, folder: str, source: str) -> Path:
    """A folder that a data set's card names, which must be one of its own.

    Raises:
        DatasetError: it lies elsewhere on this computer.
    """
    named = path / folder
    if not real_path(named).is_relative_to(real_path(path)):
        raise DatasetError(
            f"the card of {source} names the folder {folder!r}, which is none of its own",
            allowed="a data_dir inside the data set",
            action="correct data_dir in its README.md, or choose another data set",
        )
    return named


def _again(load: Callable[[], T]) -> T:
    """Call what downloads, again where a connection ends: huggingface_hub repeats what a server refuses and what times
    out, but not this. What has arrived stays in the cache."""
    from hf_free.hub.session import lost_on_the_way, timed_out

    for attempt in range(1, _TRIES):
        try:
            return load()
        except Exception as error:
            lost = _behind(error, lost_on_the_way())
            if lost is None or isinstance(lost, timed_out()):
                raise
            logger.info("A file did not arrive (%s), trying again in %d s", type(lost).__name__, attempt)
            time.sleep(attempt)
    return load()


def _behind(error: Exception, kinds: tuple[type[Exception], ...]) -> Exception | None:
    """The first error of these kinds among an error and those behind it."""
    return next((one for one in chain_of(error) if isinstance(one, kinds)), None)


class _UnreadableError(DatasetError):
    """A data set of which `datasets` can make nothing, for a reason that is not the network's or the name's."""


def read_or_explain(load: Callable[[], T], source: str, cache_dir: str | None = None) -> T:
    """Call a function of `datasets`, silence its remark on data cards, and turn its many errors into one kind.

    Args:
        load: The function.
        source: The data set, as it was named.
        cache_dir: Folder of the cache, for one on the Hub; None for the usual ones.

    Raises:
        DatasetError: whatever went wrong; but not too little memory.
        StorageError: a file that may not be read or cannot be written.
    """
    import datasets.exceptions

    from hf_free.hub.failures import reason_of, refusal_among
    from hf_free.hub.session import MISREADINGS, NoProgressError, bounded_listings, lost_on_the_way
    from hf_free.runtime.device import is_out_of_memory

    misread = (*MISREADINGS, AssertionError)  # a configuration in a card that is called `no`, without quotes, say
    try:
        with full_cache_named(source, cache_dir), _no_remark_on_cards(), bounded_listings():
            return load()
    except HfFreeError:
        raise
    except datasets.exceptions.DatasetNotFoundError:
        raise not_in_cache(source, cache_dir) or DatasetError(
            f"data set {source!r} cannot be fetched: there is none of that name, or this token may not see it",
            allowed="a datasets id org/name, a Parquet file, or a folder of Parquet files or pictures",
            action="check the name; for a private or gated one give a token (hf auth login, or --token)",
        ) from None
    except Exception as error:  # of `datasets`, pyarrow, yaml, the network, and packages that a column would take
        if is_out_of_memory(error):
            raise
        if (problem := storage_problem(error)) is not None:
            raise problem from error
        if (misfit := misfit_of(error)) is not None:
            given = f"data set {source!r} cannot be read: {misfit.reason}"
            raise DatasetError(given, allowed=misfit.allowed, action=misfit.action) from None
        if (told := refusal_among(chain_of(error), source.partition(":")[0])) is not None:
            given = f"data set {source!r} cannot be read: {told.given}"
            raise DatasetError(given, allowed=told.allowed, action=told.action) from None
        if (lost := _behind(error, (*lost_on_the_way(), NoProgressError))) is not None:
            raise DatasetError(
                f"data set {source!r} cannot be read: it does not arrive from the Hub: {reason_of(lost)}",
                allowed="a working network, or files that are in the cache",
                action="check the network, proxies and HF_ENDPOINT, or try again later",
            ) from None
        reason = _why(error)
        absent = not_in_cache(source, cache_dir) if reason in ("", _OFFLINE, _NOT_CACHED) else None
        if absent is not None:
            raise absent from None
        error = _cause_of(error)
        name = type(error).__name__
        why = f"its files, card or listing have an unexpected form ({name})" if isinstance(error, misread) else ""
        raise _UnreadableError(
            f"data set {source!r} cannot be read: {reason or why or f'{name}: {_first_line(error)}'}",
            allowed="a datasets id org/name[:configuration], a Parquet file, or a folder of Parquet files or pictures",
            action="check the name, the files, or the connection",
        ) from None


def _cause_of(error: Exception) -> Exception:
    """What made the reading of a data set fail, where the error says only that it did."""
    cause = error.__cause__
    return cause if type(error).__name__ == "DatasetGenerationError" and isinstance(cause, Exception) else error


_OFFLINE = "it is not in the cache, and the Hub is not asked (--offline, HF_HUB_OFFLINE)"
_NOT_CACHED = "the Hub does not answer for one of its files, and the cache has it not"

_KNOWN = {
    "Parquet file size is 0 bytes": "a Parquet file of it is empty",
    "Parquet file size is": "a Parquet file of it is cut off",
    "Parquet magic bytes not found": "a Parquet file of it is damaged or no Parquet file",
    "Couldn't deserialize thrift": "a Parquet file of it is damaged",
    "Corrupt": "a Parquet file of it is damaged",
    "Unexpected end of stream": "a Parquet file of it is damaged",
    "BatchSize must be greater than 0, got 0": "a Parquet file of it has no rows",
    "Multiple matches for FieldRef": "two of its columns have the same name",
    "as a scalar of type": "a column has other types in some of its files",
    "Feature type": "a column is of a type that `datasets` does not know",
    "with any supported extension": "its card names files that are not there, or of a kind that is not read",
    "Expected data_files in YAML": "its card names files in a form that is not read",
    "Invalid metadata file_name": "its metadata names files that are none of its own",
    "offline mode is enabled": _OFFLINE,
    "trying to locate the file on the Hub": _NOT_CACHED,
    "scripts are no longer supported": "it is a script, which is not run",
    "To support decoding": "a column holds neither pictures nor labels, and takes a package that is not installed",
}
"""What libraries say of a data set that cannot be read, by a part of their words, in ours."""


def _why(raised: BaseException) -> str:
    """Why a data set cannot be read, where the cause is known; it may lie behind the error."""
    for error in chain_of(raised):
        if type(error).__name__ in ("EmptyDatasetError", "DataFilesNotFoundError"):
            return "it holds no data files"
        if type(error).__name__ == "HFValidationError":
            return "no data set on the Hub can have that name, and there is no such file or folder"
        if isinstance(error, json.JSONDecodeError):
            return "the JSON in one of its files is none"
        for part, reason in _KNOWN.items():
            if part in str(error):
                return reason
    return ""


@contextmanager
def _no_remark_on_cards() -> Iterator[None]:
    """Without "Repo card metadata block was not found": a data set need not have a card, and nobody can act on it.
    What readers of files write down they raise as well.
    """
    silenced = {"huggingface_hub.repocard": logging.ERROR, "datasets.packaged_modules": logging.CRITICAL}
    levels = {logging.getLogger(name): level for name, level in silenced.items()}
    before = {logger: logger.level for logger in levels}
    try:
        for logger, level in levels.items():
            logger.setLevel(level)
        yield
    finally:
        for logger, level in before.items():
            logger.setLevel(level)


def _first_line(error: Exception) -> str:
    """The first line of an error's text, shortened."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
