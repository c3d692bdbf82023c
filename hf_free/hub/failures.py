"""The one message a user needs for a failure of the Hub: what happened, what is allowed, what to do."""

from __future__ import annotations

from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hf_free.errors import HubError, TeacherReferenceError
from hf_free.hub.names import check_repo_id, check_revision
from hf_free.hub.session import is_transient
from hf_free.runtime.storage import storage_problem

LOGIN = "run `hf auth login`, set HF_TOKEN or pass --token"


def check_names(repo_id: str, revision: str | None) -> None:
    """Refuse an id or a revision that no Hub can have, before it becomes part of an address or a path.

    Raises:
        HubError: with what is wrong.
    """
    try:
        check_repo_id(repo_id)
        if revision is not None:
            check_revision(revision)
    except TeacherReferenceError as error:
        raise HubError(error.given, allowed=error.allowed, action=error.action) from None


def explain(error: Exception, repo_id: str, *, revision: str | None = None, token: str | None = None) -> HubError:
    """Turn any failure of a call into the one message a user needs; it never holds a token or a signed address."""
    if isinstance(error, HubError):
        return error
    if isinstance(error, OfflineModeIsEnabled):
        return HubError(f"{repo_id} needs the Hub, and HF_HUB_OFFLINE is set", action="unset HF_HUB_OFFLINE")
    if isinstance(error, HfHubHTTPError):
        return _explain_status(error, repo_id, revision, token)
    if is_transient(error):
        reason = str(error) or type(error).__name__
        return HubError(
            f"cannot reach the Hub at {constants.ENDPOINT} for {repo_id}: {reason}",
            allowed="a working network, or files that are in the cache",
            action="check the network, proxies and HF_ENDPOINT; with cached files HF_HUB_OFFLINE=1 works without",
        )
    if (full := storage_problem(error)) is not None:
        return HubError(
            f"cannot keep the files of {repo_id}: {full.given}",
            allowed=full.allowed,
            action="free some space, or pass --cache-dir with a folder elsewhere; files that are there already stay",
        )
    if isinstance(error, OSError):
        return HubError(f"cannot keep the files of {repo_id}: {error}", action="free some space or pass --cache-dir")
    if isinstance(error, (ValueError, KeyError)):  # an answer that is no JSON, or lacks something
        return HubError(
            f"the Hub at {constants.ENDPOINT} gives no usable answer for {repo_id}", action="check HF_ENDPOINT"
        )
    raise error


def _explain_status(error: HfHubHTTPError, repo_id: str, revision: str | None, token: str | None) -> HubError:
    page = f"{constants.ENDPOINT}/{repo_id}"
    status, said = error.response.status_code, getattr(error, "server_message", None) or ""
    if isinstance(error, GatedRepoError):
        if token is None:
            return HubError(
                f"{repo_id} is gated and no token was given", action=f"ask for access at {page}, then {LOGIN}"
            )
        return HubError(f"{repo_id} is gated and the token's user has no access", action=f"ask for access at {page}")
    if isinstance(error, RevisionNotFoundError):
        return HubError(
            f"{repo_id} has no revision {revision or 'main'!r}", action=f"see {page}/tree/main for its branches"
        )
    if (
        status == 401
        and token is not None
        and ("redentials" in said or not isinstance(error, RepositoryNotFoundError))
    ):
        return HubError("the Hub does not know the token", action=f"make a new one, then {LOGIN}")
    if isinstance(error, RepositoryNotFoundError):
        if token is None:
            return HubError(
                f"{repo_id} does not exist on {constants.ENDPOINT}, or is private and no token was given",
                action=f"check the spelling; for a private repository {LOGIN}",
            )
        return HubError(
            f"{repo_id} does not exist on {constants.ENDPOINT}, or is private and the token's user may not see it",
            action="check the spelling, and who the token belongs to with `hf auth whoami`",
        )
    if status in (401, 403):
        return HubError(f"the Hub refuses {repo_id} to this token ({status}): {said}", action=LOGIN)
    if status == 429:
        return HubError(
            f"the Hub limits the rate of requests (429) for {repo_id}", action="wait some minutes, or log in"
        )
    trouble = "has trouble" if status >= 500 else "refuses the request"
    return HubError(
        f"the Hub at {constants.ENDPOINT} {trouble} for {repo_id} ({status}): {said}", action="try again later"
    )
