"""What a Space on the Hub holds."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from huggingface_hub.errors import RepositoryNotFoundError

from hf_free.hub.answers import read_repository
from hf_free.hub.endpoint import token_to_send
from hf_free.hub.failures import explain
from hf_free.hub.session import READ_TIMEOUT, api_for, patiently


@dataclass(frozen=True)
class SpaceFiles:
    """The files of a Space; none where there is no Space."""

    names: tuple[str, ...] = ()
    """All of them."""
    read: Mapping[str, bytes] = field(default_factory=dict)
    """Those that were asked for and are there."""


def files_of_space(space: str, wanted: Sequence[str], *, token: str | None = None) -> SpaceFiles:
    """Ask the Hub what a Space holds, and fetch some of its files, past the cache.

    Args:
        space: Its id.
        wanted: The files to fetch, where they are there.
        token: Access token; None takes the user's own.

    Raises:
        HubError: it cannot be asked.
    """
    token = token_to_send(token)
    api = api_for(token)
    try:
        info = patiently(lambda: read_repository(api.space_info(space, timeout=READ_TIMEOUT)))
        names = tuple(file.name for file in info.files or ())
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:

            def fetch(name: str) -> bytes:
                path = api.hf_hub_download(space, name, repo_type="space", revision=info.commit, cache_dir=scratch)
                return Path(path).read_bytes()

            return SpaceFiles(names, {name: patiently(partial(fetch, name)) for name in wanted if name in names})
    except RepositoryNotFoundError:
        return SpaceFiles()
    except Exception as error:
        raise explain(error, space, token=token) from None
