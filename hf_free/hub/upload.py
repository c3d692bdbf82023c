"""Publishing: ask whether a push would be allowed, and push a folder in one commit."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError

from hf_free.errors import HubError, PushError, UnfitRepositoryError
from hf_free.hub.answers import Account, read_account, read_repository
from hf_free.hub.endpoint import token_to_send
from hf_free.hub.failures import LOGIN, check_names, explain
from hf_free.hub.session import ATTEMPTS, READ_TIMEOUT, WRITE_TIMEOUT, api_for, patiently
from hf_free.provenance.reading import Json
from hf_free.runtime.given import from_home
from hf_free.runtime.text import one_line, without_secrets

Kind = Literal["model", "space"]
"""What a repository is."""

_MODEL, _EXTRA, _CLASSIFIER = "model.safetensors", "hf_free.safetensors", "classifier.json"
LEARNER_FILES = ("config.json", _MODEL, _EXTRA)
"""Files by which a learner is told, before it is made; a classifier has `_CLASSIFIER` too."""

_AT_ONCE = 200
"""Files that are asked about in one request."""

MESSAGE = "Upload meta-learner with hf-free"
"""Default first line of a commit."""

_MAX_SAID = 300
"""Most characters of a Hub's own words in a message."""

CLASSIFIER_MESSAGE = "Upload few-shot classifier with hf-free"
"""The same of an adapted classifier."""


def push_folder(
    folder: Path,
    repo_id: str,
    *,
    token: str | None = None,
    private: bool = False,
    commit_message: str = MESSAGE,
    create_pr: bool = False,
    revision: str | None = None,
    replace_card: bool = True,
    kind: Kind = "model",
    again: str = "",
    parent: str | None = None,
) -> str:
    """Upload a folder in one commit and return the address of the repository, or of the pull request it opened.

    Safe to run again after any failure: files that arrived are skipped and no empty commit is made. Files of the
    repository that the folder lacks stay. A pull request is tried once only, since a second try could open a second.

    Args:
        folder: What to upload, whole.
        repo_id: `org/name`, created if it does not exist.
        token: Access token with the write role; None takes the user's own.
        private: Create it private; refused where it exists and is public.
        commit_message: Title of the commit.
        create_pr: Open a pull request instead of committing.
        revision: Branch, created if it does not exist; None for main.
        replace_card: Whether our README.md replaces one that is there already.
        kind: What the repository is; a Space is one of Gradio.
        again: The command that tries again; `hf-free push` without one.
        parent: The commit that has to be the last one of the branch, as what is uploaded was made from it; None takes
            any.

    Raises:
        HubError: nothing to upload, or a name that no repository can have.
        PushError: with the cause, a `ChangedMeanwhileError` where there has been another commit; the folder is as it
            was.
    """
    folder = from_home(folder)
    check_names(repo_id, revision, to_push=True)
    check_branch(revision, create_pr=create_pr)
    if not folder.is_dir() or not any(folder.iterdir()):
        raise HubError(f"{folder} is not a folder with files to push", action="give the folder of a trained learner")
    options: Json = {"repo_id": repo_id, "repo_type": kind}
    is_new_and_empty = False
    try:
        sent = uploaded(folder) if revision is None else ()  # what lies on a branch of its own is nobody's card
        is_there = check_can_push(repo_id, token, private=private, create_pr=create_pr, kind=kind, names=sent)
        token = token_to_send(token)
        api = api_for(token)
        sdk = "gradio" if kind == "space" else None
        patiently(
            lambda: api.create_repo(**options, space_sdk=sdk, private=private or None, exist_ok=True),
            timeout=WRITE_TIMEOUT,
        )
        is_new_and_empty = not is_there
        if revision is not None and not create_pr and not revision.startswith("refs/pr/"):
            patiently(lambda: api.create_branch(**options, branch=revision, exist_ok=True), timeout=WRITE_TIMEOUT)
        keep_card = not replace_card and patiently(
            lambda: api.get_paths_info(**options, paths=["README.md"], revision=revision)
        )
        commit = patiently(
            lambda: api.upload_folder(
                **options,
                folder_path=folder,
                commit_message=commit_message,
                create_pr=create_pr,
                revision=revision,
                ignore_patterns=["README.md"] if keep_card else None,
                parent_commit=None if create_pr else parent,
            ),
            timeout=WRITE_TIMEOUT,
            attempts=1 if create_pr else ATTEMPTS,
            every_thread=True,
        )
        is_new_and_empty = False
        if not create_pr:  # a second try could open a second one
            names = [name for name in uploaded(folder) if not (keep_card and name == "README.md")]
            made = str(getattr(commit, "oid", "") or "")  # the commit itself: others may follow it at once
            at = made if re.fullmatch(r"[0-9a-f]{40}", made) else revision
            there = patiently(lambda: _sizes(api, options, names, at))
            _check_arrived(folder, names, there)
    except Exception as error:
        problem = explain_push(error, repo_id) or explain(error, repo_id, revision=revision, token=token)
        if is_new_and_empty:  # in the cause, which stays where this error is told in other words
            left = f"the repository {repo_id} was made and is empty: the same push goes on with it, or delete it"
            problem.action = "\n           ".join(line for line in (problem.action, left) if line)
        again = again or push_command(
            folder, repo_id, private=private, commit_message=commit_message, create_pr=create_pr, revision=revision
        )
        raise PushError(problem, folder=folder, again=again) from None
    if commit.pr_url:  # none where the repository has these very files already
        return str(commit.pr_url)
    return f"{api.endpoint}/{'' if kind == 'model' else 'spaces/'}{repo_id}" + (
        f"/tree/{revision}" if revision else ""
    )


def check_branch(revision: str | None, *, create_pr: bool) -> None:
    """Refuse a pull request against another branch than the default one, which the Hub's client cannot open.

    Raises:
        HubError: both are asked for.
    """
    if create_pr and revision is not None:
        raise HubError(
            f"a pull request, and the branch {revision!r}",
            allowed="one of them: a pull request is opened against the default branch",
            action="leave out --create-pr or --revision",
        )


def _check_same_kind(names: Collection[str], there: Collection[str], repo_id: str) -> None:
    """Refuse a classifier in the place of a learner, or a learner in that of a classifier: the card that is there
    stays, and would speak of the other one; and either in the place of another model.

    Raises:
        HubError: with what is there.
    """
    if _EXTRA in names and _MODEL in there and _EXTRA not in there:
        raise UnfitRepositoryError(
            f"{repo_id} holds a model that is no learner of hf-free, and would be replaced",
            allowed="a new repository, or one of a learner",
            action="choose another name",
        )
    if not (_MODEL in names and _MODEL in there) or (_CLASSIFIER in names) == (_CLASSIFIER in there):
        return
    kinds = ("a classifier", "a learner") if _CLASSIFIER in there else ("a learner or a model", "a classifier")
    raise UnfitRepositoryError(
        f"{repo_id} holds {kinds[0]}, and what would go there is of {kinds[1]}",
        allowed=f"a new repository, or one of {kinds[1]}",
        action="choose another name",
    )


def uploaded(folder: Path) -> list[str]:
    """The files of a folder that an upload takes: all but those of git and of clients."""
    names = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    return [name.as_posix() for name in names if not {".git", ".cache"} & set(name.parts)]


def _sizes(api: HfApi, options: Json, names: Sequence[str], revision: str | None) -> dict[str, int | None]:
    """The files of these names that are in a repository, with their sizes."""
    found = {}
    for start in range(0, len(names), _AT_ONCE):
        for entry in api.get_paths_info(**options, paths=list(names[start : start + _AT_ONCE]), revision=revision):
            found[str(entry.path)] = getattr(entry, "size", None)
    return found


def _check_arrived(folder: Path, names: Sequence[str], there: Mapping[str, int | None]) -> None:
    """Refuse a success after which files are not in the repository: a Hub passes over what its .gitignore names.

    Raises:
        HubError: with the first of them.
    """
    lost = [name for name in names if there.get(name) != (folder / name).stat().st_size]
    if lost:
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        raise HubError(
            f"the Hub took the upload, but {', '.join(lost[:3])}{more} did not arrive as they are here",
            allowed="a repository that takes all files",
            action="see whether a .gitignore in the repository names them, and remove it",
        )


def push_command(
    folder: Path,
    repo_id: str,
    *,
    private: bool,
    commit_message: str | None,
    create_pr: bool,
    revision: str | None,
    mark_predecessor: bool = False,
) -> str:
    """The command that tries a push again, with all that was asked for: a private learner stays private."""
    words = ["hf-free", "push", str(folder), repo_id]
    words += ["--private"] if private else []
    words += ["--create-pr"] if create_pr else []
    words += ["--mark-predecessor"] if mark_predecessor else []
    words += [] if revision is None else ["--revision", revision]
    words += [] if commit_message in (None, MESSAGE) else ["--commit-message", str(commit_message)]
    return shlex.join(words)


def check_can_push(
    repo_id: str,
    token: str | None,
    *,
    private: bool = False,
    create_pr: bool = False,
    kind: Kind = "model",
    always_private: str = "",
    names: Collection[str] = (),
) -> bool:
    """Ask the Hub whether a push to a repository would be allowed; nothing is created.

    `always_private` names what goes to private repositories only, for the message about a public one; `names` are
    those of the files to push, where they are known.

    Returns:
        Whether the repository is there already.

    Raises:
        HubError: no token, one that may not write there, a public repository where a private one is asked for, a
            learner where a classifier would come or the other way around, or the Hub cannot be asked.
    """
    check_names(repo_id, None, to_push=True)
    token = token_to_send(token)
    if token is None:
        raise HubError(f"pushing to {repo_id} needs a token", allowed="one with the write role", action=LOGIN)
    api = api_for(token)
    try:
        account = patiently(lambda: read_account(api.whoami()))
        _check_account(account, repo_id.split("/")[0], repo_id, create_pr=create_pr)
        try:
            info = patiently(lambda: read_repository(api.repo_info(repo_id, repo_type=kind, timeout=READ_TIMEOUT)))
            if not create_pr:
                patiently(lambda: api.auth_check(repo_id, repo_type=kind, write=True))
        except RepositoryNotFoundError:
            return False  # will be created
    except Exception as error:
        raise explain(error, repo_id, token=token) from None
    _check_same_kind(names, [file.name for file in info.files or ()], repo_id)
    if always_private and not info.private:
        raise UnfitRepositoryError(
            f"{repo_id} exists and is public, and {always_private} are pushed to private repositories only",
            action="make it private in its settings on the Hub, or choose another name",
        )
    if private and not info.private:
        raise UnfitRepositoryError(
            f"{repo_id} exists and is public, but --private was asked for",
            action="make it private in its settings on the Hub, choose another name, or leave --private out",
        )
    return True


def is_private(repo_id: str, token: str | None) -> bool:
    """Whether a model's repository is there and private.

    Raises:
        HubError: the Hub cannot be asked.
    """
    token = token_to_send(token)
    api = api_for(token)
    try:
        return patiently(lambda: read_repository(api.model_info(repo_id, timeout=READ_TIMEOUT))).private
    except RepositoryNotFoundError:
        return False
    except Exception as error:
        raise explain(error, repo_id, token=token) from None


def _check_account(account: Account, namespace: str, repo_id: str, *, create_pr: bool) -> None:
    if account.role == "read":
        raise HubError(
            f"the token of {account.name} may only read, so {repo_id} cannot be pushed to",
            allowed="a token with the write role",
            action="make one at https://huggingface.co/settings/tokens, then " + LOGIN,
        )
    writable = [account.name, *(name for name, role in account.organizations.items() if role != "read")]
    if namespace not in writable and not create_pr:
        raise HubError(
            f"the token of {account.name} may not write to {repo_id}",
            allowed=", ".join(f"{name}/..." for name in writable),
            action="choose a repository there, log in as someone else, or open a pull request with --create-pr",
        )


def explain_push(error: Exception, repo_id: str) -> HubError | None:
    """The error for failures that only uploads have; None for others."""
    if isinstance(error, ConnectionError) and "xet" in str(error):
        return HubError(
            f"the Hub that has {repo_id} offers no Xet storage",
            allowed="uploads through git-lfs on such a Hub",
            action="set HF_HUB_DISABLE_XET=1 before starting Python",
        )
    if type(error) is ValueError and str(error).startswith("LFS batch API"):  # one line of each file: "...: `reason"
        reasons = dict.fromkeys(re.findall(r": `(.*)", str(error)))
        said = one_line(without_secrets("; ".join(reasons)))[:_MAX_SAID]
        return HubError(
            f"the Hub refuses the large files for {repo_id}: {said or 'it does not say why'}",
            action="correct what it names, and try again",
        )
    if type(error) is ValueError and "README.md" in str(error):  # how huggingface_hub passes on what is wrong with it
        return HubError(
            f"the Hub refuses to take the files for {repo_id}: {without_secrets(error)}", action="correct README.md"
        )
    return None
