"""A learner's folder, or an adapted classifier's, to the Hub, also where its save was interrupted."""

from __future__ import annotations

from pathlib import Path

from hf_free.errors import HubError
from hf_free.hub.upload import CLASSIFIER_MESSAGE, MESSAGE
from hf_free.learner.classifier_files import read_classifier_config
from hf_free.learner.config_check import check_learner_config
from hf_free.learner.format import (
    CLASSIFIER_CONFIG,
    CLASSIFIER_WEIGHTS,
    SUPPORT,
    check_is_no_pointer,
    refuse_stranger,
)
from hf_free.learner.one_step import find_file, finish_saving, learners_part
from hf_free.learner.persistence import find_learner
from hf_free.learner.pooled_files import named_teacher_files
from hf_free.publishing.classifier_card import write_classifier_card
from hf_free.publishing.new_version import NewVersion
from hf_free.publishing.push import plan_new_version_of, plan_push, push_saved


def push_learner(
    folder: Path,
    repo_id: str,
    *,
    token: str | None = None,
    private: bool = False,
    commit_message: str | None = None,
    create_pr: bool = False,
    revision: str | None = None,
    new_version: NewVersion | None = None,
) -> str:
    """Upload a learner's or classifier's folder with its card; see `hf_free.publishing.push.push_saved`.

    Returns:
        The address of the repository, or of the pull request.

    Raises:
        LearnerError: nobody could open what would be uploaded.
        PushError: the upload failed; it says how to go on.
    """
    _check_is_whole(folder)
    return push_saved(
        folder,
        repo_id,
        token=token,
        private=private,
        commit_message=commit_message,
        create_pr=create_pr,
        revision=revision,
        new_version=new_version,
        complete=_complete,
        default_message=CLASSIFIER_MESSAGE if (folder / CLASSIFIER_CONFIG).exists() else MESSAGE,
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
    _check_is_whole(folder)
    return plan_push(
        folder, repo_id, token=token, private=private, create_pr=create_pr, revision=revision, complete=_complete
    )


def plan_mark_of(
    folder: Path,
    repo_id: str,
    *,
    token: str | None = None,
    private: bool = False,
    create_pr: bool = False,
    revision: str | None = None,
) -> NewVersion:
    """What changes in the card of the learner that this one continued, for `push_learner` with the same arguments.

    Raises:
        HubError: an adapted classifier, or no predecessor on the Hub that may be changed.
    """
    if (folder / CLASSIFIER_CONFIG).exists():
        raise HubError(
            f"--mark-predecessor, and {folder} is an adapted classifier",
            allowed="a learner of hf-free train --from ORG/NAME",
            action="leave --mark-predecessor out",
        )
    return plan_new_version_of(folder, repo_id, token=token, private=private, create_pr=create_pr, revision=revision)


def _check_is_whole(folder: Path) -> None:
    """Refuse what cannot be opened, or was not saved together, before it is copied; no weights are read but to hash
    them.

    Raises:
        LearnerError: with the first reason.
    """
    source, weights = str(folder), None
    for path in sorted(folder.rglob("*.safetensors")):
        check_is_no_pointer(path, source)
    if (folder / CLASSIFIER_CONFIG).exists():
        described = read_classifier_config(folder, source)
        weights = None if described.files is None else learners_part(described.files)
        named = {CLASSIFIER_WEIGHTS: (described.files or {}).get(CLASSIFIER_WEIGHTS)}
        named |= {SUPPORT: described.support.sha256} if described.support is not None else {}
        for name, wanted in named.items():
            refuse_stranger(source, name, find_file(folder, name, wanted)[1], CLASSIFIER_CONFIG)
    found = find_learner(folder, source, weights)
    check_learner_config(found.content, source)
    for name in found.strangers:
        refuse_stranger(source, name, is_named=False)
    for name, wanted in named_teacher_files(found.content).items():
        refuse_stranger(source, name, find_file(folder, name, wanted)[1])


def _complete(folder: Path) -> None:
    """Finish a save that was killed, and give a classifier without a card its own, which is not a learner's."""
    finish_saving(folder)
    if (folder / CLASSIFIER_CONFIG).is_file() and not (folder / "README.md").is_file():
        write_classifier_card(folder)
