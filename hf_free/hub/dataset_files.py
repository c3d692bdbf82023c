"""The files of a data set repository: their names, and all of them in a folder."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.repocard import REGEX_YAML_BLOCK

from hf_free.errors import HubError
from hf_free.hub.answers import read_repository
from hf_free.hub.cache import announced
from hf_free.hub.endpoint import token_to_send
from hf_free.hub.failures import explain
from hf_free.hub.session import api_for, is_transient, patiently
from hf_free.runtime.text import without_secrets

DOWNLOAD_ERRORS = (HfHubHTTPError, OSError, ValueError)
"""Errors that `fetch_dataset` raises, and libraries that download by themselves."""

_CACHED = re.compile(
    r"(?P<cache>.+)/datasets--(?P<repo>[^/]+)/snapshots/(?P<commit>[0-9a-f]{40})/(?P<name>.+)", re.DOTALL
)
"""Where huggingface_hub's cache has a file of a data set."""

logger = logging.getLogger(__name__)


class Listed(NamedTuple):
    """What a Hub lists of a data set."""

    names: tuple[str, ...] = ()
    """Its files."""
    commit: str | None = None
    """Where they are of; None where it is not said."""


def files_of_dataset(repo_id: str, *, revision: str | None = None, token: str | None = None) -> Listed:
    """A data set's files and their commit; none where the Hub has no such data set, which others report.

    A Hub that cannot be reached is found out within seconds.

    Raises:
        HubError: no such revision; or no answer. With HF_HUB_OFFLINE set it is not raised: the cache may have the
            files.
    """
    if constants.HF_HUB_OFFLINE:
        return Listed()
    token = token_to_send(token)
    try:
        info = patiently(
            lambda: read_repository(api_for(token).dataset_info(repo_id, revision=revision, timeout=10)), attempts=2
        )
        commit = info.commit if info.commit and re.fullmatch(r"[0-9a-f]{40}", info.commit) else None
        return Listed(tuple(file.name for file in info.files or ()), commit)
    except RevisionNotFoundError:
        page = f"{without_secrets(constants.ENDPOINT)}/datasets/{repo_id}"
        raise HubError(
            f"the data set {repo_id} has no revision {revision or 'main'!r}",
            allowed="a branch, a tag or a commit of it",
            action=f"see {page}/tree/main for its branches, or name no revision",
        ) from None
    except Exception as error:
        if is_transient(error) and not isinstance(error, HfHubHTTPError):
            raise explain(error, repo_id, revision=revision, token=token) from None
        return Listed()


def cached_dataset(repo_id: str, *, revision: str | None = None, cache_dir: str | None = None) -> Path | None:
    """The folder of a data set in the cache, where the Hub must not be asked (HF_HUB_OFFLINE); None otherwise."""
    if not constants.HF_HUB_OFFLINE:
        return None
    try:
        return fetch_dataset(repo_id, revision=revision, cache_dir=cache_dir)
    except DOWNLOAD_ERRORS:  # nothing is there
        return None


def fetch_card(
    repo_id: str, name: str, *, revision: str | None, token: str | None = None, cache_dir: str | None = None
) -> Path | None:
    """Download one small file of a data set into huggingface_hub's cache; its path, or None where it is not there or
    the data set is not, which others report.

    What a Hub lists is not asked: a listing may fail or lack a file that is read all the same.

    Raises:
        HfHubHTTPError, OSError, ValueError: as huggingface_hub does; see `DOWNLOAD_ERRORS`.
    """
    try:
        path = hf_hub_download(
            repo_id, name, repo_type="dataset", revision=revision, token=token_to_send(token), cache_dir=cache_dir
        )
    except (RemoteEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError):
        return None
    except LocalEntryNotFoundError:
        if constants.HF_HUB_OFFLINE:
            return None
        raise
    return Path(path)


def block_of_card(text: str) -> str:
    """The block of YAML in a card, as the Hub's client finds it; empty where there is none."""
    found = REGEX_YAML_BLOCK.search(text)
    return str(found[2]) if found else ""


def make_intact(path: Path, *, token: str | None = None) -> None:
    """Compare a file of a data set with its hash, which is its name in huggingface_hub's cache as the Hub announced
    it; one that differs is fetched again, once. Files that lie elsewhere are passed over.

    Raises:
        HubError: it differs again, or the Hub is not to be asked.
        HfHubHTTPError, OSError, ValueError: as huggingface_hub does; see `DOWNLOAD_ERRORS`.
    """
    found = _CACHED.fullmatch(path.absolute().as_posix())
    expected = None if found is None else announced(path)
    if found is None or expected is None or expected.matches(path):
        return
    repo_id = found["repo"].replace("--", "/", 1)
    called = f"{found['name']} of the data set {repo_id}"
    if constants.HF_HUB_OFFLINE:
        raise HubError(
            f"{called} is damaged in the cache, and HF_HUB_OFFLINE is set",
            allowed=f"a file with {expected.algorithm} {expected.digest}",
            action="unset HF_HUB_OFFLINE, or leave --offline out: then it is fetched anew",
        )
    logger.warning("The bytes of %s do not have their hash, fetching them again", called)
    hf_hub_download(
        repo_id,
        found["name"],
        repo_type="dataset",
        revision=found["commit"],
        cache_dir=found["cache"],
        token=token_to_send(token),
        force_download=True,
    )
    if not replace(expected, size=path.stat().st_size).matches(path):
        (path.parent / os.readlink(path)).unlink()
        path.unlink()
        raise HubError(
            f"{called} arrived twice with other bytes than the Hub announces",
            allowed=f"{expected.algorithm} {expected.digest}",
            action="try again later or through another network; nothing was kept",
        )


def is_offline() -> bool:
    """Whether the Hub must not be asked (HF_HUB_OFFLINE)."""
    return bool(constants.HF_HUB_OFFLINE)


def usual_cache() -> Path:
    """The client's cache, where no other is named."""
    return Path(constants.HF_HUB_CACHE)


def fetch_dataset(
    repo_id: str, *, revision: str | None = None, token: str | None = None, cache_dir: str | None = None
) -> Path:
    """Download all files of a data set into huggingface_hub's cache; returns their folder.

    Raises:
        HfHubHTTPError, OSError, ValueError: as huggingface_hub does; see `DOWNLOAD_ERRORS`.
    """
    return Path(snapshot_download(repo_id, repo_type="dataset", revision=revision, token=token, cache_dir=cache_dir))
