"""A saved learner to the Hub, and results into the card of one that is there; safe to repeat after any failure."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from hf_free.errors import HubError, PushError, RunError
from hf_free.hub.endpoint import token_to_send
from hf_free.hub.failures import LOGIN, ChangedMeanwhileError, check_names
from hf_free.hub.snapshot import fetch_snapshot
from hf_free.hub.upload import MESSAGE, check_branch, check_can_push, push_command, push_folder, uploaded
from hf_free.provenance.learner_record import LearnerRecord
from hf_free.provenance.reading import object_of
from hf_free.provenance.recorded_teacher import RecordedTeacher
from hf_free.provenance.results import EvaluationReport
from hf_free.publishing.card import PLACEHOLDER, write_card, write_public_config
from hf_free.publishing.edits import has_sections, is_edited, read_card, with_fresh_sections
from hf_free.publishing.new_version import NewVersion, plan_new_version, predecessor_on_hub
from hf_free.publishing.opening import check_can_be_opened
from hf_free.publishing.redaction import public_record
from hf_free.publishing.results import folder_name, is_results_file, with_results
from hf_free.publishing.unredacted import unredacted
from hf_free.runtime.files import copy_folder, write_text
from hf_free.runtime.given import check_flags, check_texts
from hf_free.runtime.saved_json import read_saved

_CARD = "README.md"

_TRIES = 3
"""How often results are added to a card that others change meanwhile."""

_SAVE_AGAIN = "save the learner again"

logger = logging.getLogger(__name__)


def push_saved(
    folder: Path,
    repo_id: str,
    *,
    token: str | None = None,
    private: bool = False,
    commit_message: str | None = None,
    create_pr: bool = False,
    revision: str | None = None,
    new_version: NewVersion | None = None,
    complete: Callable[[Path], object] | None = None,
    default_message: str = MESSAGE,
) -> str:
    """Upload a learner's folder with a card that names its repository; the folder itself stays as it is.

    Args:
        folder: The learner's folder.
        repo_id: `org/name`, created if it does not exist.
        token: Hub token with the write role.
        private: Create the repository private.
        commit_message: First line of the commit.
        create_pr: Open a pull request instead of committing.
        revision: Branch to commit to; None for main.
        new_version: From `plan_new_version_of` with the same arguments: what changes in the card of the learner that
            this one continued, in a commit of its own after the upload, or a pull request.
        complete: Called with the copy that is uploaded, to finish a save that was killed.
        default_message: First line of the commit where none is given.

    Returns:
        The address of the repository, or of the pull request.

    Raises:
        PushError: the upload failed; it says how to go on.
    """
    check_names(repo_id, revision, to_push=True)
    check_branch(revision, create_pr=create_pr)
    with _as_published(folder, repo_id, complete) as copy:
        kept = _keep_edits(copy / _CARD, repo_id, token=token, revision=revision)
        try:
            url = push_folder(
                copy,
                repo_id,
                token=token,
                private=private,
                commit_message=commit_message or default_message,
                create_pr=create_pr,
                revision=revision,
                parent=kept.made_from,
            )
            if kept.replaces and not create_pr:
                logger.warning(
                    "the card of %s, which hf-free had not written, is replaced; its history keeps it", repo_id
                )
            if new_version is not None:
                _mark(new_version, token, create_pr=create_pr)
            return url
        except HubError as error:
            again = push_command(
                folder,
                repo_id,
                private=private,
                commit_message=commit_message,
                create_pr=create_pr,
                revision=revision,
                mark_predecessor=new_version is not None,
            )
            raise PushError(_cause(error), folder=folder, again=again) from error


def plan_new_version_of(
    folder: Path,
    repo_id: str,
    *,
    token: str | None = None,
    private: bool = False,
    create_pr: bool = False,
    revision: str | None = None,
) -> NewVersion:
    """What changes in the card of the learner that this one continued, for `push_saved` with the same arguments.

    The learner's own record may hide which learner it continued; that of its run, beside it, does not.

    Raises:
        HubError: no predecessor on the Hub that may be changed.
    """
    check_names(repo_id, revision, to_push=True)
    start = unredacted(folder, record_of(folder)).setting("learner", "init_from")
    predecessor = predecessor_on_hub(start)
    return plan_new_version(predecessor, repo_id, token=token, private=private, create_pr=create_pr, revision=revision)


def plan_push(
    folder: Path,
    repo_id: str,
    *,
    token: str | None = None,
    private: bool = False,
    create_pr: bool = False,
    revision: str | None = None,
    complete: Callable[[Path], object] | None = None,
) -> dict[str, int]:
    """What `push_saved` would upload, with the same arguments: each file and its bytes. Nothing is created or changed.
    Whether it may be uploaded is asked where there is a token; without one it is said that it was not.

    Raises:
        HubError: the push would not be allowed, or the learner could not be opened by others.
    """
    check_names(repo_id, revision, to_push=True)
    check_branch(revision, create_pr=create_pr)
    with _as_published(folder, repo_id, complete) as copy:
        found = {name: (copy / name).stat().st_size for name in uploaded(copy)}
    if token_to_send(token) is None:
        logger.warning("without a token it was not asked whether %s may be pushed to: %s", repo_id, LOGIN)
    else:
        names = found if revision is None else ()
        check_can_push(repo_id, token, private=private, create_pr=create_pr, names=names)
    return dict(sorted(found.items()))


def check_push(
    repo_id: str, *, token: object, revision: str | None, commit_message: object, create_pr: object, **flags: object
) -> None:
    """Refuse arguments of a push that are of another type, before anything is made or asked.

    Raises:
        ConfigError: with the argument's name; a `private` that is None would publish to everybody.
        HubError: a name or a revision that no repository has.
    """
    check_texts(token=token, revision=revision, commit_message=commit_message)
    check_flags(create_pr=create_pr, **flags)
    check_names(repo_id, revision, to_push=True)
    check_branch(revision, create_pr=create_pr is True)


@contextmanager
def _as_published(folder: Path, repo_id: str, complete: Callable[[Path], object] | None) -> Iterator[Path]:
    """A copy of a learner's folder as it is uploaded, which is gone afterwards."""
    if (folder / _CARD).exists():
        read_card(folder / _CARD)  # before gigabytes are copied
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        copy = Path(scratch) / "learner"
        _copy(folder, copy)
        for path in [path for path in copy.glob("*.json") if is_results_file(path)]:
            path.unlink()  # it names folders of this computer; the card has what `hf-free evaluate --push` wrote
        if complete is not None:
            complete(copy)
        check_can_be_opened(record_of(copy))
        address_card(copy, repo_id)
        write_public_config(copy / "config.json")
        yield copy


class _Kept(NamedTuple):
    """What becomes of the card that is in a repository."""

    made_from: str | None = None
    """The commit that text was taken from; None where none was."""
    replaces: bool = False
    """Whether a card that hf-free has not written makes way."""


def _keep_edits(card: Path, repo_id: str, *, token: str | None, revision: str | None) -> _Kept:
    """Let a card that nobody has edited here keep what was written into the repository's own."""
    if not card.is_file() or is_edited(ours := read_card(card)):
        return _Kept()
    try:
        found = fetch_snapshot(repo_id, revision=revision, required=(), optional=(_CARD,), token=token)
    except HubError:  # no repository yet; if it is something else, the upload says so
        return _Kept()
    if _CARD not in found.sha256:
        return _Kept()
    theirs = read_card(found.folder / _CARD, repo_id=repo_id)
    if not has_sections(theirs):
        return _Kept(replaces=is_edited(theirs))
    write_text(card, with_fresh_sections(theirs, ours))
    return _Kept(None if found.from_cache else found.commit)


def _copy(folder: Path, copy: Path) -> None:
    try:
        copy_folder(folder, copy, safe=f"{folder} is unchanged; TMPDIR says where it is copied for the upload")
    except (OSError, ValueError) as error:
        raise RunError(
            f"{folder} cannot be uploaded: {error}",
            allowed="folders and regular files, and links within the folder",
            action="move away what is none of these, or put a copy in the place of a link, and push again",
        ) from None


def push_made(
    make: Callable[[Path], object],
    repo_id: str,
    *,
    token: str | None,
    private: bool,
    commit_message: str,
    create_pr: bool,
    revision: str | None,
    replace_card: bool,
    new_version: NewVersion | None = None,
) -> str:
    """Upload what `make` writes into a folder that is gone afterwards.

    Args:
        make: Given an empty folder.
        repo_id: `org/name`, created if it does not exist.
        token: Hub token with the write role.
        private: Create the repository private.
        commit_message: First line of the commit.
        create_pr: Open a pull request instead of committing.
        revision: Branch to commit to; None for main.
        replace_card: Whether a card that is there is replaced; it may have been edited by hand.
        new_version: What changes in the card of the learner that this one continued, after the upload.

    Returns:
        The address of the repository, or of the pull request.

    Raises:
        HubError: the upload failed.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        make(Path(scratch))
        try:
            url = push_folder(
                Path(scratch),
                repo_id,
                token=token,
                private=private,
                commit_message=commit_message,
                create_pr=create_pr,
                revision=revision,
                replace_card=replace_card,
            )
            if new_version is not None:
                _mark(new_version, token, create_pr=create_pr)
            return url
        except PushError as error:  # without the folder, which is gone
            raise error.cause from None


def _mark(new_version: NewVersion, token: str | None, *, create_pr: bool) -> None:
    address = new_version.commit(token=token, create_pr=create_pr)
    if create_pr:
        logger.warning("the change of %s's card is proposed at %s", new_version.predecessor, address)


def record_of(folder: Path) -> LearnerRecord:
    """The record in a folder's config.json; empty where there is none.

    Raises:
        RunError: it is not JSON.
    """
    config = folder / "config.json"
    content = read_saved(config, action=_SAVE_AGAIN) if config.is_file() else {}
    return LearnerRecord.from_dict(object_of(object_of(content).get("hf_free")))


def address_card(folder: Path, repo_id: str) -> None:
    """Make a folder's card name the repository that it goes to, or write one from its config.json where there is none
    or an empty one.

    A card that is there keeps its text, edits by hand included; only its placeholder is filled in.

    Raises:
        RunError: a card that is no text.
    """
    config, card = folder / "config.json", folder / _CARD
    if card.is_file() and (text := read_card(card)).strip():
        write_text(card, text.replace(PLACEHOLDER, repo_id))
    elif config.is_file() and (folder / "model.safetensors").is_file():
        write_card(folder, record_of(folder), repo_id=repo_id)


def add_results(
    folder: Path,
    report: EvaluationReport,
    *,
    repo_id: str | None = None,
    teachers: Sequence[RecordedTeacher] | None = None,
) -> None:
    """Put results into the `hf_free` block of a folder's config.json, and write the card's sections anew from it.

    Args:
        folder: The learner's.
        report: What was measured.
        repo_id: Where the card is going to; None for what the record says.
        teachers: The teachers with all names, as a run's own has them, by which private ones are found in the
            results; None takes those of the folder, which may be redacted already.
    """
    path = folder / "config.json"
    if (folder / _CARD).exists():
        read_card(folder / _CARD)  # before anything is written
    content = object_of(read_saved(path, action=_SAVE_AGAIN))
    block, found = object_of(content.get("hf_free")), report.to_dict()
    content["hf_free"] = block
    is_pooled = LearnerRecord.from_dict(block).is_pooled
    if not is_pooled:
        known = block.get("teachers") or [] if teachers is None else [one.to_dict() for one in teachers]
        found = public_record({**block, "teachers": known, "results": [found]})["results"][0]
    block["results"] = with_results(block.get("results") or [], found)
    write_text(path, json.dumps(content, indent=2) + "\n")
    write_card(folder, LearnerRecord.from_dict(block), repo_id=repo_id, redacts=not is_pooled, keeps_edits=True)


def publish_results(
    repo_id: str,
    report: EvaluationReport,
    *,
    token: str | None = None,
    cache_dir: str | Path | None = None,
    commit_message: str | None = None,
    create_pr: bool = False,
) -> str:
    """Add results to the card of a learner on the Hub, as its main branch has it.

    Only `config.json` and `README.md` are uploaded; the weights stay as they are.

    Args:
        repo_id: The learner's repository.
        report: What was measured.
        token: Hub token with the write role.
        cache_dir: Folder of the download cache.
        commit_message: First line of the commit; None names the data set.
        create_pr: Open a pull request instead of committing.

    Returns:
        The address of the repository, or of the pull request.

    Raises:
        HubError: the card cannot be fetched.
        PushError: it cannot be uploaded.
    """
    for left in reversed(range(_TRIES)):
        try:
            return _publish_once(
                repo_id,
                report,
                token=token,
                cache_dir=cache_dir,
                commit_message=commit_message,
                create_pr=create_pr,
            )
        except PushError as error:
            if not (left and isinstance(error.cause, ChangedMeanwhileError)):
                raise
    raise AssertionError("the last try returns or raises")


def _publish_once(
    repo_id: str,
    report: EvaluationReport,
    *,
    token: str | None,
    cache_dir: str | Path | None,
    commit_message: str | None,
    create_pr: bool,
) -> str:
    """Add results to what is there now; an edit of somebody else in between refuses it rather than being lost."""
    snapshot = fetch_snapshot(
        repo_id,
        required=("config.json",),
        optional=("README.md",),
        token=token,
        cache_dir=cache_dir,
    )
    measured_on = folder_name(report.dataset) if report.local else report.dataset
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        for name in snapshot.sha256:
            shutil.copyfile(snapshot.folder / name, folder / name)
        if _CARD in snapshot.sha256:
            read_card(folder / _CARD, repo_id=repo_id)
        add_results(folder, report, repo_id=repo_id)
        write_public_config(folder / "config.json")
        try:
            return push_folder(
                folder,
                repo_id,
                token=token,
                commit_message=commit_message or f"Results on {measured_on}, {report.split}",
                create_pr=create_pr,
                parent=snapshot.commit,
            )
        except HubError as error:
            raise PushError(_cause(error), again=f"hf-free evaluate {repo_id} ... --push") from error


def _cause(error: HubError) -> HubError:
    """What went wrong, without advice that is about the temporary copy."""
    return error.cause if isinstance(error, PushError) else error
