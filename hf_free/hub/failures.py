"""The one message a user needs for a failure of the Hub: what happened, what is allowed, what to do."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hf_free.errors import (
    HubError,
    StorageError,
    TeacherReferenceError,
    UnavailableRepositoryError,
    UnfitRepositoryError,
)
from hf_free.hub.names import check_repo_id, check_revision
from hf_free.hub.session import (
    MISREADINGS,
    MalformedAnswerError,
    RateLimitedError,
    StalledError,
    WaitAskedError,
    http_library,
    is_transient,
    root_of,
)
from hf_free.runtime.storage import storage_problem
from hf_free.runtime.text import without_secrets

LOGIN = "run `hf auth login`, set HF_TOKEN or pass --token"


_NETWORK = "a working network, or files that are in the cache"
_BELOW = ("httpcore", "httpcore2", "h11", "h2", "zlib", "zstandard")
"""Packages below the HTTP library, whose errors it passes on where an answer has another form."""

_OUT_OF_SPACE = "remove what is not needed from the account's repositories, or take a plan with more space"
_WAYS_OUT = {
    400: "correct what it names, and try again",
    402: _OUT_OF_SPACE,
    407: "log in at the proxy: HTTPS_PROXY=http://NAME:PASSWORD@HOST:PORT",
    409: "try again: somebody else has changed it meanwhile",
    410: "choose another one: it is not given out any more",
    413: "push fewer or smaller files",
    422: "correct what it names, and try again",
    451: "choose another one: it is not given out for legal reasons",
    507: _OUT_OF_SPACE,
    511: "log in to this network with a browser, and try again",
}
"""What to do about an answer of that status, where waiting does not help."""

_MAX_SAID = 300
"""Most characters of a server's own words in a message."""


class ChangedMeanwhileError(HubError):
    """A commit that was made from an older one than the last of its branch."""


_REFERENCES = ("refs/heads/", "refs/tags/")
"""How git itself writes branches and tags: the Hub would make a branch of that whole name."""


def check_names(repo_id: str, revision: str | None, *, to_push: bool = False) -> None:
    """Refuse an impossible id or revision before it becomes part of an address or a path.

    Args:
        repo_id: `org/name`.
        revision: A branch, a tag, a commit.
        to_push: Whether it is written to: a folder cannot be meant.

    Raises:
        HubError: with what is wrong; an `UnfitRepositoryError` where it is written to, since the same command would be
            refused again.
    """
    try:
        check_repo_id(repo_id, or_folder=not to_push)
        if revision is not None:
            check_revision(revision)
        if to_push and revision is not None and revision.startswith(_REFERENCES):
            name = revision.split("/", 2)[2]
            raise UnfitRepositoryError(
                f"{revision!r} names no branch by its own name",
                allowed="the name of a branch, or refs/pr/NUMBER for a pull request that is open",
                action=f"write {name}",
            )
    except TeacherReferenceError as error:
        kind = UnfitRepositoryError if to_push else HubError
        raise kind(error.given, allowed=error.allowed, action=error.action) from None


def refusal_among(errors: Iterable[BaseException], repo_id: str) -> HubError | None:
    """What a Hub's answer, or a lack of certificates, means that another library's errors stand for; None where none
    of them is either."""
    for error in errors:
        if isinstance(error, HfHubHTTPError):
            return explain(error, repo_id)
        if (lacking := _lacking_certificates(error)) is not None:
            return lacking
    return None


def _lacking_certificates(error: BaseException) -> HubError | None:
    """What an error means that a client raises where its file of certificates is gone; it does not name the file."""
    named = os.environ.get("SSL_CERT_FILE")
    if not isinstance(error, FileNotFoundError) or not named or os.path.isfile(named):
        return None
    return HubError(
        f"the environment variable SSL_CERT_FILE names {named}, which is no file",
        allowed="a file of certificates",
        action="correct it, or unset it",
    )


def explain(error: Exception, repo_id: str, *, revision: str | None = None, token: str | None = None) -> HubError:
    """Turn any failure of a call into the one message a user needs; it never holds a token or a signed address."""
    if isinstance(error, HubError):
        return error
    cause = root_of(error)
    if cause is not error:
        return _explain_storage(cause, str(error), repo_id)
    if isinstance(error, OfflineModeIsEnabled):
        return HubError(
            f"{repo_id} needs the Hub, and HF_HUB_OFFLINE is set",
            action="unset HF_HUB_OFFLINE, or leave --offline out",
        )
    if isinstance(error, HfHubHTTPError):
        return _explain_status(error, repo_id, revision, token)
    if isinstance(error, RateLimitedError | WaitAskedError | StalledError):
        return _explain_waiting(error, repo_id)
    if is_transient(error):
        return HubError(
            f"cannot reach the Hub at {_endpoint()} for {repo_id}: {reason_of(error)}",
            allowed=_NETWORK,
            action="check the network, proxies and HF_ENDPOINT; with cached files HF_HUB_OFFLINE=1 works without",
        )
    if (full := error if isinstance(error, StorageError) else storage_problem(error)) is not None:
        return HubError(
            f"cannot keep the files of {repo_id}: {full.given}",
            allowed=full.allowed,
            action="free some space, or pass --cache-dir with a folder elsewhere; files that are there already stay",
        )
    # huggingface_hub's uploads have some
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return HubError(
            f"no more threads can be started, as the files for {repo_id} need",
            allowed="a limit that leaves some (ulimit -u), and memory for them",
            action="end other programs, or raise the limit",
        )
    if (lacking := _lacking_certificates(error)) is not None:
        return lacking
    if isinstance(error, OSError):
        return HubError(
            f"cannot keep the files of {repo_id}: {reason_of(error)}", action="free some space or pass --cache-dir"
        )
    of_client = type(error).__module__.partition(".")[0] in (http_library().__name__, *_BELOW)
    if of_client or isinstance(error, (MalformedAnswerError, ValueError, KeyError, ArithmeticError, AssertionError)):
        detail = f": {reason_of(error)}" if isinstance(error, MalformedAnswerError) else ""
        return HubError(
            f"the Hub at {_endpoint()} gives no usable answer for {repo_id}{detail}",
            allowed="answers in the form of the Hub's",
            action="check HF_ENDPOINT",
        )
    raise error


def _explain_storage(error: Exception, said: str, repo_id: str) -> HubError:
    """A file that did not reach the storage behind a Hub; huggingface_hub's text names it."""
    named = re.search(r"'(.+)'", said)
    what = f"{named[1] if named else 'a file'} did not reach the storage of the Hub at {_endpoint()} for {repo_id}"
    if isinstance(error, WaitAskedError):
        reason, action = f"it asks to wait {_duration(error.seconds)} ({error.status})", "try again then"
    elif isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        reason, action = f"it answers {status}", "try again later"
        if status in (401, 403):
            reason, action = f"it refuses the upload ({status})", "try again: a permission to upload soon expires"
    elif isinstance(error, (ValueError, ArithmeticError, *MISREADINGS)):
        reason, action = "the Hub gives no usable answer", "check HF_ENDPOINT"
    else:
        reason, action = reason_of(error), "check the network and try again"
    return HubError(f"{what}: {reason}", action=action)


def _endpoint() -> str:
    """The Hub's address, without a password that was written into it."""
    return without_secrets(constants.ENDPOINT)


def reason_of(error: Exception) -> str:
    """What went wrong, in our words where the library's speak of its own workings."""
    library = http_library()
    if isinstance(error, library.DecodingError):
        return "its answer is damaged on the way"
    if isinstance(error, library.UnsupportedProtocol):
        return "it leads to an address that is none of http"
    if isinstance(error, library.ProtocolError):
        ended = re.search("closed connection|without sending|disconnected", str(error))
        return "the connection ended before its answer did" if ended else "its answer is no valid HTTP"
    said = re.sub(r"\[Errno -?\d+\] ", "", without_secrets(error))
    return " ".join(said.split())[:_MAX_SAID] or type(error).__name__


def _duration(seconds: int) -> str:
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            number = -(-seconds // size)
            return f"{number} {unit}{'' if number == 1 else 's'}"
    return f"{seconds} s"


def _explain_status(error: HfHubHTTPError, repo_id: str, revision: str | None, token: str | None) -> HubError:
    page = f"{_endpoint()}/{repo_id}"
    status, said = (
        error.response.status_code,
        without_secrets(getattr(error, "server_message", None) or "")[:_MAX_SAID],
    )
    if isinstance(error, GatedRepoError):
        if token is None:
            return UnavailableRepositoryError(
                f"{repo_id} is gated and no token was given", action=f"ask for access at {page}, then {LOGIN}"
            )
        return UnavailableRepositoryError(
            f"{repo_id} is gated and the token's user has no access", action=f"ask for access at {page}"
        )
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
            return UnavailableRepositoryError(
                f"{repo_id} does not exist on {_endpoint()}, or is private and no token was given",
                action=f"check the spelling; for a private repository {LOGIN}",
            )
        return UnavailableRepositoryError(
            f"{repo_id} does not exist on {_endpoint()}, or is private and the token's user may not see it",
            action="check the spelling, and who the token belongs to with `hf auth whoami`",
        )
    if status in (401, 403):
        way = _OUT_OF_SPACE if _is_out_of_space(said) else LOGIN
        return HubError(f"the Hub refuses {repo_id} to this token ({status}): {said}", action=way)
    if status == 429:
        return _rate_limited(repo_id)
    if status == 412:
        return ChangedMeanwhileError(
            f"{repo_id} has been changed by somebody else meanwhile", action="try again: it is read anew then"
        )
    trouble = "has trouble" if status >= 500 else "refuses the request"
    way = _OUT_OF_SPACE if _is_out_of_space(said) else _WAYS_OUT.get(status, "try again later")
    return HubError(f"the Hub at {_endpoint()} {trouble} for {repo_id} ({status}): {said}", action=way)


def _explain_waiting(error: RateLimitedError | WaitAskedError | StalledError, repo_id: str) -> HubError:
    """A Hub that was waited for as long as it is worth it."""
    if isinstance(error, RateLimitedError):
        return _rate_limited(repo_id)
    if isinstance(error, WaitAskedError):
        return HubError(
            f"the Hub at {_endpoint()} asks to wait {_duration(error.seconds)} for {repo_id} ({error.status})",
            action="try again then; with a token the limits are higher",
        )
    return HubError(
        f"{error} from the Hub at {_endpoint()}", allowed=_NETWORK, action="try again, or through another network"
    )


def _rate_limited(repo_id: str) -> HubError:
    return HubError(f"the Hub limits the rate of requests (429) for {repo_id}", action="wait some minutes, or log in")


def _is_out_of_space(said: str) -> bool:
    """Whether a Hub says that an account has no space left."""
    return re.search(r"\bquota\b|storage limit", said, re.IGNORECASE) is not None
