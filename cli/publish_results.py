"""`hf-free evaluate --push`: results into a learner's `config.json` and its card."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hf_free.cli.console import say
from hf_free.cli.publish import push_or_say_how


def publish_results(
    location: str,
    results: dict[str, Any],
    *,
    revision: str | None,
    token: str | None,
    cache_dir: Path | None,
    commit_message: str | None,
    create_pr: bool,
) -> str:
    """Write results into a learner's card: on the Hub, or in its folder where it is a local one.

    Only `config.json` and `README.md` are uploaded; the weights stay as they are.

    Args:
        location: Hub id or folder of the learner.
        results: `EvaluationReport.to_dict()`.
        revision: Revision the learner was read at.
        token: Hub token.
        cache_dir: Folder of the download cache.
        commit_message: First line of the commit.
        create_pr: Whether to open a pull request.

    Returns:
        The address of the repository, or the folder.

    Raises:
        HubError: the card cannot be fetched or uploaded.
    """
    if Path(location).is_dir():
        _write(Path(location), results)
        say(f"The card of {location} has the results; publish it with: hf-free push {location} ORG/NAME")
        return location
    from hf_free.hub.snapshot import fetch_snapshot

    snapshot = fetch_snapshot(
        location,
        revision=revision,
        required=("config.json",),
        optional=("README.md",),
        token=token,
        cache_dir=cache_dir,
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in snapshot.sha256:
            shutil.copyfile(snapshot.folder / name, folder / name)
        _write(folder, results)
        return push_or_say_how(
            folder,
            location,
            token=token,
            private=snapshot.private,
            commit_message=commit_message or f"Results on {results['dataset']}, {results['split']}",
            create_pr=create_pr,
            retry=f"hf-free evaluate {location} ... --push",
        )


def _write(folder: Path, results: dict[str, Any]) -> None:
    """Put the results into the `hf_free` block of a folder's config.json and write the card anew from it."""
    from hf_free.publishing.card import write_card
    from hf_free.publishing.results import with_results
    from hf_free.runtime.files import write_text

    path = folder / "config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    block = content["hf_free"]
    block["results"] = with_results(block.get("results") or [], results)
    write_text(path, json.dumps(content, indent=2) + "\n")
    write_card(folder, block)
