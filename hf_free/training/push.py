"""`push`: a run, a saved learner or a classifier to the Hub, as `hf-free push` does it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, TypedDict

from hf_free.learner.push import plan_mark_of, plan_push_of, push_learner
from hf_free.publishing.new_version import NewVersion
from hf_free.runtime.given import check_flags, check_kind, check_texts, given_path
from hf_free.training.location import learner_folder


class PlannedPush(NamedTuple):
    """What a push would do."""

    learner: Path
    """The folder that would be uploaded."""
    files: dict[str, int]
    """Each file and its bytes."""
    new_version: NewVersion | None = None
    """What would change in the card of the learner that this one continued."""


class How(TypedDict):
    """How something is uploaded."""

    token: str | None
    private: bool
    create_pr: bool
    revision: str | None


def push(
    folder: str | Path,
    repo_id: str,
    *,
    token: str | None = None,
    private: bool = False,
    commit_message: str | None = None,
    create_pr: bool = False,
    revision: str | None = None,
    mark_predecessor: bool = False,
) -> str:
    """Publish a run's learner, a saved learner or a classifier with its card; the folder stays as it is.

    Unlike `push_to_hub` it also uploads the picture of recovered images that a run left, and keeps what was written by
    hand into the card that is there. Unchanged content makes no commit.

    Args:
        folder: A run's folder, or that of a saved learner or classifier.
        repo_id: `org/name`, created if it does not exist.
        token: Hub token with the write role.
        private: Create the repository private.
        commit_message: First line of the commit.
        create_pr: Open a pull request instead of committing.
        revision: Branch to commit to; None for main.
        mark_predecessor: Whether the card of the learner on the Hub that this one continued gets `new_version`.

    Returns:
        The address of the repository, or of the pull request.

    Raises:
        RunError: no learner is in the folder.
        HubError: no predecessor that may be marked; nothing is uploaded then.
        PushError: the upload failed; it says how to go on.
    """
    check_texts(commit_message=commit_message)
    how = How(token=token, private=private, create_pr=create_pr, revision=revision)
    learner, new_version = _planned(folder, repo_id, how, mark_predecessor=mark_predecessor)
    return push_learner(
        learner,
        repo_id,
        **how,
        commit_message=commit_message,
        new_version=new_version,
    )


def plan_push(
    folder: str | Path,
    repo_id: str,
    *,
    token: str | None = None,
    private: bool = False,
    create_pr: bool = False,
    revision: str | None = None,
    mark_predecessor: bool = False,
) -> PlannedPush:
    """What `push` would do with the same arguments, and, with a token, whether it may: `hf-free push --dry-run`.

    Nothing is created or changed.

    Args:
        folder: As of `push`, and so are the other arguments.
        repo_id: `org/name`.
        token: Hub token with the write role.
        private: Whether the repository would be created private.
        create_pr: Whether a pull request would be opened.
        revision: The branch.
        mark_predecessor: Whether to mark the predecessor.

    Returns:
        The files, and what would change in the predecessor's card.

    Raises:
        RunError: no learner is in the folder.
        HubError: the push would not be allowed, or the learner could not be opened by others.
    """
    how = How(token=token, private=private, create_pr=create_pr, revision=revision)
    learner, new_version = _planned(folder, repo_id, how, mark_predecessor=mark_predecessor)
    files = plan_push_of(learner, repo_id, **how)
    return PlannedPush(learner, files, new_version)


def _planned(folder: str | Path, repo_id: str, how: How, *, mark_predecessor: bool) -> tuple[Path, NewVersion | None]:
    """Check arguments; the folder of the learner that is meant, and what would change in its predecessor's card."""
    check_kind(repo_id, "repo_id", str, allowed="org/name", optional=False)
    check_texts(token=how["token"], revision=how["revision"])
    check_flags(private=how["private"], create_pr=how["create_pr"], mark_predecessor=mark_predecessor)
    learner = learner_folder(given_path(folder, "folder"))
    return learner, plan_mark_of(learner, repo_id, **how) if mark_predecessor else None
