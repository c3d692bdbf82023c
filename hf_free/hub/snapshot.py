"""Every call to a Hub: fetch the files of one commit, push a folder, search, ask whether a push would be allowed.

A failure is a `HubError` with its real cause, within 30 seconds of the last sign of life. Tokens are never logged
and never sent unencrypted to another machine.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import yaml
from huggingface_hub import constants, hf_hub_url
from huggingface_hub.utils import build_hf_headers

from hf_free.errors import HubError, MissingFilesError, StorageError
from hf_free.hub.answers import RepositoryFile, read_repository
from hf_free.hub.cache import CommitRecord, RepositoryCache, is_commit
from hf_free.hub.download import ExpectedFile, download
from hf_free.hub.endpoint import token_to_send
from hf_free.hub.failures import check_names, explain
from hf_free.hub.licenses import UNREADABLE, stated_license
from hf_free.hub.names import id_of_cache_folder
from hf_free.hub.search import FoundModel, models_of_collection, search_models
from hf_free.hub.session import ATTEMPTS, READ_TIMEOUT, api_for, is_transient, patiently
from hf_free.hub.upload import check_can_push, push_folder
from hf_free.runtime.files import read_bounded, sha256_of, why_unreadable
from hf_free.runtime.given import from_home, given_path
from hf_free.runtime.storage import storage_explained
from hf_free.runtime.text import size_text

__all__ = [
    "FoundModel",
    "Snapshot",
    "check_can_push",
    "fetch_snapshot",
    "local_snapshot",
    "models_of_collection",
    "push_folder",
    "search_models",
]

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".tar", ".npz")
"""Endings of weight files that can run code when they are loaded; they are never fetched."""
WEIGHTS_IN_PARTS = "model.safetensors.index.json"
"""What transformers writes beside weights in several files."""
_MAX_CARD_BYTES = 2**20
"""Most bytes of a README.md that is read; the Hub's largest cards have some hundred kB."""

_MOST_METADATA = 2**16
"""Most characters of a card's metadata that are read whole: a mebibyte of YAML took nine seconds of processor time."""
_LONG_LINE = 2**10
"""A line of metadata that states a license is shorter."""

Arrived = Callable[[str, int, int], None]
"""Called with a file's name, how many of its bytes have arrived, and its size; an exception from it ends the
fetching."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """Verified files of one commit (or of a local folder).

    Args:
        folder: Where the files lie; other files in it are not part of the snapshot.
        repo_id: `org/name`; None for a local folder.
        commit: 40 hexadecimal digits; None for a local folder.
        private: Whether the repository is private; True if the Hub could not be asked.
        gated: Whether access to the files has to be asked for.
        license: From the card's metadata.
        sha256: SHA-256 of each file, by name.
        from_cache: Whether the Hub was not or could not be asked, so that a branch may have moved since.
    """

    folder: Path
    repo_id: str | None
    commit: str | None
    private: bool
    gated: bool
    license: str | None
    sha256: dict[str, str]
    from_cache: bool = False


def fetch_snapshot(
    repo_id: str,
    *,
    revision: str | None = None,
    required: Sequence[str] = ("config.json", "model.safetensors"),
    optional: Sequence[str] = (),
    token: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    arrived: Arrived | None = None,
) -> Snapshot:
    """Fetch the named files of one commit of a model repository, verified, through the cache.

    The revision is resolved once, so that all files are of one commit. Without a Hub (offline mode, or it cannot be
    reached) cached files are used, and a warning is logged. A full commit whose files are cached needs no request.

    Args:
        repo_id: `org/name`.
        revision: Branch, tag or commit; None for main.
        required: Files that have to be there; never pickles.
        optional: Files to fetch too where they exist.
        token: Access token; None takes the user's own.
        cache_dir: huggingface_hub's cache; None for the default one.
        local_files_only: Ask no Hub.
        arrived: Called for every piece of a file that is downloaded; not for cached files.

    Raises:
        HubError: with the cause: unknown, private or gated repository, no such revision or file, only pickled
            weights, no network, trouble of the server, wrong bytes.
    """
    check_names(repo_id, revision)
    wanted = revision or "main"
    cache = RepositoryCache(given_path(cache_dir or constants.HF_HUB_CACHE, "cache_dir"), repo_id)
    offline = local_files_only or constants.HF_HUB_OFFLINE
    if is_commit(wanted) and not offline and cache.read_record(wanted) is not None:
        snapshot = _from_cache(cache, repo_id, wanted, required, optional)
        if snapshot is not None:
            return snapshot
    if offline:
        snapshot = _from_cache(cache, repo_id, wanted, required, optional)
        if snapshot is None:
            raise _not_cached(repo_id, wanted, required, cache, is_asked_for=local_files_only)
        logger.warning("offline: %s@%s served from the cache at commit %s", repo_id, wanted, snapshot.commit)
        return snapshot
    token = token_to_send(token)
    try:
        return _from_hub(cache, repo_id, wanted, required, optional, token, arrived)
    except Exception as error:
        if is_transient(error):
            snapshot = _from_cache(cache, repo_id, wanted, required, optional)
            if snapshot is not None:
                reason = type(error).__name__
                logger.warning(
                    "the Hub failed (%s): %s@%s served from the cache at commit %s, which may be old",
                    *(reason, repo_id, wanted, snapshot.commit),
                )
                return snapshot
        raise explain(error, repo_id, revision=revision, token=token) from None


def local_snapshot(
    folder: Path, required: Sequence[str] = ("config.json", "model.safetensors"), optional: Sequence[str] = ()
) -> Snapshot:
    """Look at a local folder in the way of `fetch_snapshot`.

    Raises:
        HubError: no such folder, a required file missing, or only pickled weights.
    """
    folder = from_home(folder)
    if not folder.is_dir():
        raise HubError(f"{folder} is not a folder", action="check the path")
    if (named := id_of_cache_folder(folder)) is not None:
        raise HubError(
            f"{folder} is a repository's folder in the Hub's cache",
            allowed="its id, or one of the folders in its snapshots/",
            action=f"name it {named}",
        )
    for path in (folder, *(folder / name for name in required)):
        if problem := why_unreadable(path):
            raise HubError(f"{folder}: {problem}", action=f"its owner lets others read it: chmod -R a+rX {folder}")
    for path in (folder / name for name in required):
        if path.exists() and not path.is_file():
            raise HubError(
                f"{folder}: {path.name} is not a regular file",
                allowed="files of bounded size, or links to them",
                action="use another folder",
            )
    if not all((folder / name).is_file() for name in required):
        present = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        _check_present(str(folder), present, required)
    names = [*required, *(name for name in optional if (folder / name).is_file())]
    return Snapshot(
        folder,
        None,
        None,
        False,
        False,
        _license_of_card(folder / "README.md"),
        {n: sha256_of(folder / n) for n in names},
    )


def _from_hub(
    cache: RepositoryCache,
    repo_id: str,
    revision: str,
    required: Sequence[str],
    optional: Sequence[str],
    token: str | None,
    arrived: Arrived | None,
) -> Snapshot:
    """Resolve the commit, fetch what the cache lacks or holds damaged, remember what the Hub said."""
    api = api_for(token)
    commit = cache.commit_of(revision)
    cached = commit is not None and all((cache.snapshot(commit) / name).is_file() for name in required)
    info = patiently(
        lambda: read_repository(api.model_info(repo_id, revision=revision, files_metadata=True, timeout=READ_TIMEOUT)),
        attempts=2 if cached else ATTEMPTS,  # no need to wait long where the cache can serve
    )
    commit = info.commit or ""
    if not is_commit(commit):  # the commit becomes the name of a folder
        raise HubError(
            f"the Hub answers with the impossible commit {commit!r} for {repo_id}", action="check HF_ENDPOINT"
        )
    listed = {file.name: file for file in info.files or ()}
    kind = f" (a model of {info.library})" if info.library not in (None, "timm") else ""
    _check_present(f"{repo_id}@{revision}{kind}", listed, required)
    names = [*required, *(name for name in optional if name in listed)]
    files = {name: _expected(listed[name], repo_id) for name in names}
    digests = [file.digest for file in files.values()]
    headers = build_hf_headers(token=token or False, library_name="hf-free")
    for name, expected in files.items():
        path = cache.snapshot(commit) / name
        if not (path.is_file() and expected.matches(path)):
            url = hf_hub_url(repo_id, name, revision=commit, endpoint=api.endpoint)
            _check_fits(expected.size, f"{name} of {repo_id}", cache.folder)
            told = None if arrived is None else _for_file(arrived, name, expected.size)
            with storage_explained(path, needed=expected.size):
                partial = cache.partial_file(expected.digest, digests)
                download(url, partial, expected, headers, told, name=f"{name} of {repo_id}")
                cache.keep(partial, commit, name, expected)
    record = CommitRecord(commit, info.private, info.gated, info.license, files)
    try:
        cache.write_record(record)
        cache.remember_ref(revision, commit)
    except (OSError, StorageError) as error:  # a cache that others keep for us, with every file in place
        logger.warning("cannot note in the cache what the Hub says of %s: %s", repo_id, error)
    return _snapshot(cache, repo_id, record, names)


def _check_fits(size: int, name: str, folder: Path) -> None:
    """Refuse a file that is announced larger than the whole disk that it would go to, before any of it is fetched.

    Raises:
        HubError: it is.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    total = 0  # where a file system does not say
    with suppress(OSError):
        total = shutil.disk_usage(there).total
    if size > total > 0:
        raise HubError(
            f"the Hub announces {size_text(size)} for {name}, and the disk of the cache holds {size_text(total)}",
            action="check HF_ENDPOINT, or pass --cache-dir with a folder on a larger disk",
        )


def _for_file(arrived: Arrived, name: str, size: int) -> Callable[[int], None]:
    return lambda done: arrived(name, done, size)


def _from_cache(
    cache: RepositoryCache, repo_id: str, revision: str, required: Sequence[str], optional: Sequence[str]
) -> Snapshot | None:
    """The cached files of a revision, or None unless all required ones are there and undamaged."""
    commit = cache.commit_of(revision)
    if commit is None:
        return None
    names = []
    for name in (*required, *optional):
        path, expected = cache.snapshot(commit) / name, cache.expected(commit, name)
        if path.is_file() and (expected is None or expected.matches(path)):
            names.append(name)
        elif name in required:
            return None
    record = cache.read_record(commit)
    if record is None:  # another client fetched it: the card beside it may give the license; the visibility is unknown
        record = CommitRecord(commit, license=_license_of_card(cache.snapshot(commit) / "README.md"))
    return _snapshot(cache, repo_id, record, names, from_cache=True)


def _snapshot(
    cache: RepositoryCache, repo_id: str, record: CommitRecord, names: Sequence[str], *, from_cache: bool = False
) -> Snapshot:
    folder = cache.snapshot(record.commit)
    hashes = {}
    for name in names:  # all were compared with the expected hashes a moment ago
        expected = record.files.get(name)
        is_known = expected is not None and expected.algorithm == "sha256"
        hashes[name] = expected.digest if expected is not None and is_known else sha256_of(folder / name)
    return Snapshot(folder, repo_id, record.commit, record.private, record.gated, record.license, hashes, from_cache)


def _check_present(place: str, present: Collection[str], required: Sequence[str]) -> None:
    """Refuse a repository or folder that lacks a required file, and say so where it has pickles instead."""
    missing = [name for name in required if name not in present]
    if not missing:
        return
    pickles = sorted(name for name in present if PurePosixPath(name).suffix in PICKLES)
    safe = any(name.endswith(".safetensors") for name in present)
    if pickles and not safe and any(name.endswith(".safetensors") for name in missing):
        raise MissingFilesError(
            f"{place} has only pickled weights ({', '.join(pickles[:3])})",
            allowed="model.safetensors: a pickle can run code when it is loaded, so hf-free never reads one",
            action="convert it (https://huggingface.co/spaces/safetensors/convert) and give the new revision, or load "
            "it yourself where you trust it and save config.json and model.safetensors into a folder",
        )
    if WEIGHTS_IN_PARTS in present:
        raise MissingFilesError(
            f"{place} has its weights in several files",
            allowed="model.safetensors, all weights in one file",
            action="load it and save it with max_shard_size above its size, in a folder or repository of your own",
        )
    writer = ", as timm.models.push_to_hf_hub writes it" if len(required) == 2 else ""  # of a teacher
    raise MissingFilesError(
        f"{place} has no {' and no '.join(missing)}",
        allowed=f"a repository or folder with {' and '.join(required)}{writer}",
        action="choose another one, or another revision",
    )


def _expected(file: RepositoryFile, repo_id: str) -> ExpectedFile:
    """Size and hash of a file out of the Hub's metadata."""
    digest = file.sha256 or file.git_hash
    if file.size is None or digest is None:
        raise HubError(f"the Hub gives no size and hash of {file.name} in {repo_id}", action="check HF_ENDPOINT")
    return ExpectedFile(file.size, "sha256" if file.sha256 else "git-sha1", digest)


def _not_cached(
    repo_id: str, revision: str, required: Sequence[str], cache: RepositoryCache, *, is_asked_for: bool
) -> HubError:
    """The error for files that are not in the cache, where the call asked for that alone or the environment does."""
    without = "leave local_files_only out" if is_asked_for else "leave --offline out and unset HF_HUB_OFFLINE"
    commit = cache.commit_of(revision)
    state = "is not in the cache" if commit is None else f"is in the cache without an intact {' and '.join(required)}"
    return HubError(
        f"{repo_id}@{revision} {state}, and {'local_files_only' if is_asked_for else 'HF_HUB_OFFLINE'} is set",
        allowed="files that were fetched before, with the same cache",
        action=f"{without}, so that they are fetched; or name the cache that they are in (--cache-dir, HF_HOME)",
    )


def _license_of_card(path: Path) -> str | None:
    """The license in the metadata of a card on disk; `UNREADABLE` for one that is there and cannot be read."""
    try:
        text = read_bounded(path, max_bytes=_MAX_CARD_BYTES).decode("utf-8-sig")
        if "\0" in text:  # as a machine that loses power leaves a file
            return UNREADABLE
        match = re.match(r"\s*---\s*\n(.*?)\n---", text, re.DOTALL)
        metadata = yaml.safe_load(_short(match.group(1))) if match else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return UNREADABLE
    return stated_license(metadata) if isinstance(metadata, dict) else None


def _short(metadata: str) -> str:
    """A card's metadata; of what would take seconds to read, only the lines that state a license."""
    if len(metadata) <= _MOST_METADATA:
        return metadata
    return "\n".join(line for line in metadata.splitlines() if line.startswith("license") and len(line) < _LONG_LINE)
