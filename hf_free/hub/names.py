"""What a repository id and a revision may look like."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from hf_free.errors import TeacherReferenceError
from hf_free.runtime.given import short_form

NAME_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?")

MAX_ID_LENGTH = 96  # characters of a repository id, as huggingface_hub validates it

_MAX_SHOWN = 300  # characters of a text in a message

ENDPOINT = "endpoint:"
"""What the reference of a black box begins with, before its address."""

PLAIN = "ORG/NAME: a user or an organization, and a name"
"""What a repository that is written to may be called."""

GRAMMAR = "[collection:]org/name[@revision][:classes], or an existing local folder"


def check_revision(revision: str, text: str | None = None) -> str:
    """Refuse revisions that git refuses or that leave a cache folder (clients join them to paths unchecked).

    Raises:
        TeacherReferenceError: see git-check-ref-format(1).
    """
    if not isinstance(revision, str):
        raise name_error(text or short_form(revision), f"has the revision {short_form(revision)}, which is no text")
    parts = revision.split("/")
    bad = not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+/-]*", revision) or ".." in revision or len(revision) > 255
    if bad or any(not part or part.startswith(".") or part.endswith((".", ".lock")) for part in parts):
        raise name_error(
            text or revision,
            f"has the malformed revision {revision!r}",
            allowed="a branch, a tag or a commit: letters, digits, . _ + - and single /",
            action="write it as the Hub shows it, such as main",
        )
    return revision


def check_repo_id(repo_id: str, *, or_folder: bool = True) -> str:
    """Refuse ids that are not `org/name` in the Hub's characters; see `check_repository`.

    Raises:
        TeacherReferenceError: with what is wrong.
    """
    check_repository(repo_id, repo_id, or_folder=or_folder)
    return repo_id


def id_in_address(text: str) -> str | None:
    """The id in the address of a repository's page, which people copy from their browser; None where it is none."""
    found = _PAGE.match(text)
    return None if found is None else f"{found['id']}@{found['revision']}" if found["revision"] else found["id"]


def check_repository(text: str, repository: str, *, or_folder: bool = True) -> None:
    """Refuse a repository that is not `org/name`, in a message about the whole text.

    Args:
        text: What was given.
        repository: The repository in it.
        or_folder: Whether a folder might be in its place, and a revision or classes with it; not for a repository that
            is written to.

    Raises:
        TeacherReferenceError: with what is wrong.
    """
    allowed, plain = (GRAMMAR, "") if or_folder else (PLAIN, "write it as ORG/NAME")
    if is_written_as_path(repository):
        if not or_folder:
            raise name_error(text, "is written as a path", allowed=allowed, action=plain)
        raise name_error(text, "is a local folder that does not exist", action="check the path")
    if repository.startswith(ENDPOINT):
        if not or_folder:
            raise name_error(text, "is the address of an endpoint", allowed=allowed, action=plain)
        raise name_error(
            text,
            "is a black box, which only answers",
            allowed="a learner, or a model with its weights: org/name, or an existing local folder",
            action="hf-free train --models ... learns from black boxes; give what it made",
        )
    if (named := id_in_address(text)) is not None:
        named = named if or_folder else named.partition("@")[0]
        raise name_error(text, "is the address of a page, not an id", allowed=allowed, action=f"write {named}")
    parts = repository.split("/")
    if len(parts) == 1:
        name = parts[0][:MAX_ID_LENGTH]
        way = f"write org/{name if NAME_PART.fullmatch(name) else 'name'}"
        raise name_error(
            text,
            f"names {name!r} without an organization or user",
            allowed=allowed,
            action=f"for a Hub id {way}; for a folder check that it exists" if or_folder else way,
        )
    if len(parts) > 2:
        raise name_error(
            text, "has more than one '/'", allowed=allowed, action=plain or "for a folder check that it exists"
        )
    for part in parts:
        if not NAME_PART.fullmatch(part) or ".." in part or "--" in part or part.endswith(".git"):
            raise name_error(
                text,
                f"has the malformed part {part[:MAX_ID_LENGTH]!r}",
                allowed="letters, digits, . _ - inside; no '..', no '--', no '.git' at the end",
                action=plain,
            )
    if len(repository) > MAX_ID_LENGTH:
        raise name_error(text, f"has {len(repository)} characters", allowed=f"at most {MAX_ID_LENGTH}", action=plain)


def is_written_as_path(text: str) -> bool:
    """Whether a text is written as a path rather than as a Hub id."""
    if not isinstance(text, str):
        raise name_error(short_form(text), f"is of type {type(text).__name__}")
    return text.startswith((".", "/", "~", "\\")) or re.match(r"[A-Za-z]:[\\/]", text) is not None


def name_error(text: str, problem: str, *, allowed: str = GRAMMAR, action: str = "") -> TeacherReferenceError:
    """The error about a text that names nothing; long texts are cut."""
    shown = text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
    return TeacherReferenceError(
        f"{shown!r} {problem}", allowed=allowed, action=action or "write it as org/name or as a path to a folder"
    )


_PAGE = re.compile(
    r"(?:https?://[^/\s]+/|hf://|hf\.co/|huggingface\.co/)(?:models/|datasets/|spaces/)?"
    r"(?P<id>[\w.-]+/[\w.-]+)(?:/(?:tree|blob|resolve)/(?P<revision>[\w.-]+)|/?(?:[?#]|$))"
)
"""The address of a page of a Hub, and what clients write before an id."""

_MOST_LETTERS = 2048
"""Letters of an endpoint's address; no client has to send more (RFC 9110, 4.1, asks for 8,000 octets of servers)."""


def check_address(url: str) -> str | None:
    """Why a text cannot be an endpoint's address; None where it can."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "is no address"
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        return "is no http or https address"
    if len(url) > _MOST_LETTERS or not url.isascii() or re.search(r"[\x00-\x20\x7f]", url):
        return f"is no address of at most {_MOST_LETTERS} ASCII letters without blanks (xn--... for other hosts)"
    if not re.fullmatch(r"[\w.-]+|[0-9a-f]*:[0-9a-f:.]+(%\w+)?", parts.hostname):
        return "has a host that is none"
    if parts.username is not None or parts.password is not None:
        return "holds a user's name or password, which would stand in every record"
    if parts.query or parts.fragment:
        return "holds a query or fragment, which would stand in every record"
    return None


def id_of_cache_folder(folder: Path) -> str | None:
    """The repository whose folder in a cache this is, `models--org--name`: the files lie deeper in it; else None."""
    kind, _, name = folder.name.partition("--")
    is_one = kind == "models" and "--" in name and (folder / "snapshots").is_dir()
    return name.replace("--", "/", 1) if is_one else None
