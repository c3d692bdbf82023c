"""A Hub's answers, read once and strictly: huggingface_hub passes on whatever stands in the JSON.

Each function gives a frozen record of the fields that hf-free uses, all of the type they are declared with, or raises
one error. Fields that are not read here may hold anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from hf_free.hub.licenses import stated_license
from hf_free.hub.session import MalformedAnswerError

_MAX_SHOWN = 80
_MAX_NUMBER = 2**63

Value = TypeVar("Value")


@dataclass(frozen=True)
class RepositoryFile:
    """A file as an answer lists it; size and hash are None where the listing leaves them out."""

    name: str
    size: int | None
    git_hash: str | None
    sha256: str | None


@dataclass(frozen=True)
class RepositoryInfo:
    """What a Hub says of one repository."""

    repo_id: str
    commit: str | None
    private: bool
    gated: bool
    license: str | None
    library: str | None
    tags: tuple[str, ...]
    files: tuple[RepositoryFile, ...] | None
    """None where they are not listed."""
    downloads: int
    likes: int
    parameters: Mapping[str, int] | None
    """Number of weights in its safetensors files by type; None where that is not given."""
    parameters_total: int | None


@dataclass(frozen=True)
class Account:
    """Who a token belongs to, and what it may do."""

    name: str
    role: str | None
    organizations: Mapping[str, str | None]
    """Name of each organization and the user's role in it."""


def read_repository(info: object) -> RepositoryInfo:
    """Read what a Hub says of a repository, out of huggingface_hub's `ModelInfo` or `DatasetInfo`.

    Raises:
        MalformedAnswerError: a field of another type.
    """
    files = _field(info, "siblings", list)
    counts = _field(info, "safetensors", object)
    card = _field(info, "card_data", object)
    return RepositoryInfo(
        repo_id=_required(_text(info, "id"), "id"),
        commit=_text(info, "sha"),
        private=bool(_field(info, "private", bool)),
        gated=_field(info, "gated", (bool, str)) not in (None, False),
        license=None if card is None else stated_license(_mapping(card, "cardData")),
        library=_text(info, "library_name"),
        tags=_texts(_field(info, "tags", list), "tags"),
        files=None if files is None else tuple(map(_file, files)),
        downloads=_whole(info, "downloads") or 0,
        likes=_whole(info, "likes") or 0,
        parameters=None if counts is None else _counts(_field(counts, "parameters", dict)),
        parameters_total=None if counts is None else _whole(counts, "total"),
    )


def read_listing(answer: object) -> list[object]:
    """The entries of a listing of models.

    Raises:
        MalformedAnswerError: no list.
    """
    return _checked(answer, list, "the listing")


def read_account(answer: object) -> Account:
    """Read the answer to `whoami`.

    Raises:
        MalformedAnswerError: no object, no name, or a field of another type.
    """
    values = _mapping(answer, "the account")
    auth = _mapping(values.get("auth") or {}, "auth")
    token = _mapping(auth.get("accessToken") or {}, "auth.accessToken")
    organizations = {}
    for entry in _checked(values.get("orgs") or [], list, "orgs"):
        one = _mapping(entry, "orgs")
        organizations[_required(_optional(one.get("name"), str, "orgs.name"), "orgs.name")] = _optional(
            one.get("roleInOrg"), str, "orgs.roleInOrg"
        )
    return Account(
        name=_required(_optional(values.get("name"), str, "name"), "name"),
        role=_optional(token.get("role"), str, "auth.accessToken.role"),
        organizations=organizations,
    )


def read_collection(collection: object) -> list[str]:
    """The ids of the models in a collection.

    Raises:
        MalformedAnswerError: items that are no such list.
    """
    items = _checked(_field(collection, "items", list) or [], list, "items")
    models = (item for item in items if _text(item, "item_type") == "model")
    return [_required(_text(item, "item_id"), "items.id") for item in models]


def _file(entry: object) -> RepositoryFile:
    large = _field(entry, "lfs", object)
    size = _whole(entry, "size")
    if large is not None and size is None:
        size = _whole(large, "size")
    return RepositoryFile(
        name=_required(_text(entry, "rfilename"), "siblings.rfilename"),
        size=size,
        git_hash=_hash(_text(entry, "blob_id"), 40),
        sha256=None if large is None else _hash(_required(_text(large, "sha256"), "siblings.lfs.sha256"), 64),
    )


def _hash(text: str | None, digits: int) -> str | None:
    if text is not None and not re.fullmatch(rf"[0-9a-f]{{{digits}}}", text):
        raise _malformed("a hash", text, f"{digits} hexadecimal digits")
    return text


def _counts(values: Mapping[str, object] | None) -> Mapping[str, int]:
    counts = {}
    for name, number in (values or {}).items():
        if not isinstance(name, str) or not _is_whole(number):
            raise _malformed("safetensors.parameters", number, "a whole number for each type")
        counts[name] = int(str(number))
    return counts


def _field(holder: object, key: str, kind: type[Value] | tuple[type[Value], ...]) -> Value | None:
    """A field of an object or of a mapping; None where it is missing or null.

    Raises:
        MalformedAnswerError: one of another type, or a holder that has no fields at all.
    """
    if holder is None or isinstance(holder, (str, int, float, list)):
        raise _malformed(f"what holds {key}", holder, "an object")
    value = holder.get(key) if isinstance(holder, Mapping) else getattr(holder, key, None)
    return _optional(value, kind, key)


def _optional(value: object, kind: type[Value] | tuple[type[Value], ...], name: str) -> Value | None:
    return None if value is None else _checked(value, kind, name)


def _checked(value: object, kind: type[Value] | tuple[type[Value], ...], name: str) -> Value:
    if not isinstance(value, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        raise _malformed(name, value, " or ".join(_WORDS.get(one, one.__name__) for one in kinds))
    return value


def _text(holder: object, key: str) -> str | None:
    return _field(holder, key, str)


def _whole(holder: object, key: str) -> int | None:
    value = _field(holder, key, int)
    if value is not None and not _is_whole(value):
        raise _malformed(key, value, "a whole number of at least 0")
    return value


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_NUMBER


def _texts(values: Iterable[object] | None, name: str) -> tuple[str, ...]:
    return tuple(_checked(value, str, name) for value in values or ())


def _mapping(value: object, name: str) -> Mapping[str, object]:
    as_mapping = getattr(value, "to_dict", None)  # ModelCardData
    return _checked(as_mapping() if callable(as_mapping) else value, dict, name)


def _required(value: Value | None, name: str) -> Value:
    if value is None or value == "":
        raise MalformedAnswerError(f"it has no {name}")
    return value


_WORDS: Mapping[type, str] = {list: "a list", dict: "an object", str: "a text", int: "a whole number", bool: "a bool"}


def _malformed(name: str, value: object, wanted: str) -> MalformedAnswerError:
    return MalformedAnswerError(f"{name} is {repr(value)[:_MAX_SHOWN]}, not {wanted}")
