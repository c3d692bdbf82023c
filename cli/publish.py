"""Pushing a learner's folder, shared by `train`, `push` and `evaluate --push`."""

from __future__ import annotations

import json
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from hf_free.cli.console import say
from hf_free.errors import HubError


@contextmanager
def addressed_copy(folder: Path, repo_id: str) -> Iterator[Path]:
    """A copy of a learner's folder whose card names the repository; the folder itself stays as it is.

    A card that is there keeps its text, edits by hand included; only its placeholder is filled in.
    """
    from hf_free.learner.one_step import finish_saving
    from hf_free.publishing.card import PLACEHOLDER, write_card

    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "learner"
        shutil.copytree(folder, copy)
        finish_saving(copy)  # a save that was killed is completed in the copy
        config, card = copy / "config.json", copy / "README.md"
        if card.is_file():
            card.write_text(card.read_text(encoding="utf-8").replace(PLACEHOLDER, repo_id), encoding="utf-8")
        elif config.is_file() and (copy / "model.safetensors").is_file():
            block = json.loads(config.read_text(encoding="utf-8")).get("hf_free", {})
            write_card(copy, block, repo_id=repo_id)
        yield copy


def where_published(url: str, repo_id: str) -> str:
    """What to tell of a published repository: its address; or its id, where the Hub is a program on this computer.

    Such a Hub, as the demo's, may be gone before anybody opens the address.
    """
    return repo_id if urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1") else url


def push_or_say_how(
    folder: Path,
    repo_id: str,
    *,
    token: str | None,
    private: bool,
    commit_message: str | None,
    create_pr: bool,
    revision: str | None = None,
    retry: str | None = None,
) -> str:
    """Upload a learner's folder.

    `retry` is the command that tries again, `hf-free push` by default.

    Returns:
        The URL of the repository or the commit.

    Raises:
        HubError: the upload failed; the message says that the learner is still there, and how to push it.
    """
    from hf_free.hub.upload import push_folder

    say(f"Uploading to {repo_id}")
    published = folder
    try:
        with addressed_copy(folder, repo_id) as published:
            return push_folder(
                published,
                repo_id,
                token=token,
                private=private,
                commit_message=commit_message or "Upload meta-learner with hf-free",
                create_pr=create_pr,
                revision=revision,
            )
    except HubError as error:
        safe = "" if retry else f"the learner is safe in {folder}; "
        again = f"{safe}try again with: {retry or f'hf-free push {shlex.quote(str(folder))} {repo_id}'}"
        advice = error.action.partition(f"; `hf-free push {published}")[0].partition(f"; {published} is")[0]
        action = f"{advice}\n           {again}" if advice else again
        raise HubError(error.given, allowed=error.allowed, action=action) from error
