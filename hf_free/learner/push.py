"""A learner's folder, or an adapted classifier's, to the Hub, also where its save was interrupted."""

from __future__ import annotations

from pathlib import Path

from hf_free.learner.format import CLASSIFIER_CONFIG
from hf_free.learner.one_step import finish_saving
from hf_free.publishing.classifier_card import write_classifier_card
from hf_free.publishing.push import plan_push, push_saved


def push_learner(
    folder: Path,
    repo_id: str,
    *,
    token: str | None = None,
    private: bool = False,
    commit_message: str | None = None,
    create_pr: bool = False,
    revision: str | None = None,
) -> str:
    """Upload a learner's or classifier's folder with its card; see `hf_free.publishing.push.push_saved`.

    Returns:
        The address of the repository, or of the pull request.

    Raises:
        PushError: the upload failed; it says how to go on.
    """
    return push_saved(
        folder,
        repo_id,
        token=token,
        private=private,
        commit_message=commit_message,
        create_pr=create_pr,
        revision=revision,
        complete=_complete,
    )


def plan_push_of(
    folder: Path,
    repo_id: str,
    *,
    token: str | None = None,
    private: bool = False,
    create_pr: bool = False,
    revision: str | None = None,
) -> dict[str, int]:
    """What `push_learner` would upload: each file and its bytes; see `hf_free.publishing.push.plan_push`."""
    return plan_push(
        folder, repo_id, token=token, private=private, create_pr=create_pr, revision=revision, complete=_complete
    )


def _complete(folder: Path) -> None:
    """Finish a save that was killed, and give a classifier without a card its own, which is not a learner's."""
    finish_saving(folder)
    if (folder / CLASSIFIER_CONFIG).is_file() and not (folder / "README.md").is_file():
        write_classifier_card(folder)
