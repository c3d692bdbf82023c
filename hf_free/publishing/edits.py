"""Cards that were edited by hand: hf-free writes the sections between its markers, all else stays as it is."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from hf_free.errors import RunError
from hf_free.provenance.reading import Json, list_of
from hf_free.runtime.files import read_bounded
from hf_free.runtime.text import one_line

STUMBLES = (ArithmeticError, LookupError, RecursionError, TypeError, ValueError)
"""What PyYAML raises besides its own errors: for a day that no month has, a number of thousands of digits, or lists in
hundreds of lists."""

logger = logging.getLogger(__name__)

RESULTS = "results"
"""The section that a card gets where it has none: whoever measures and pushes wants it there."""

_MOST_CARD = 2**24
"""Bytes of a card at most."""

_OURS = ("model-index", "metrics", "base_model", "base_model_relation")
"""Metadata that a new card may lack, and then are no longer true."""

_SECTION = re.compile(
    r"<!-- hf-free: (?P<name>[a-z]+) begins[^\n]*-->\n.*?<!-- hf-free: (?P=name) ends -->", re.DOTALL
)

_FRONT_MATTER = re.compile(r"\A\ufeff?\s*---[ \t]*\r?\n(?P<block>.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)


def read_card(path: Path, *, repo_id: str | None = None) -> str:
    """Read a card.

    Args:
        path: The file.
        repo_id: The repository on the Hub that it is of; None for a file of the user's own.

    Raises:
        RunError: it is no text, or no regular file of bounded size.
    """
    try:
        text = read_bounded(path, max_bytes=_MOST_CARD).decode("utf-8")
        if "\0" in text:  # as a machine that loses power leaves a file
            raise ValueError("it holds zero bytes")
        return text
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, UnicodeDecodeError):
            reason = f"it is no text from byte {error.start} on"
        anew = "move it away: a new one is written then" if repo_id is None else "delete it there"
        raise RunError(
            f"{path if repo_id is None else f'the card of {repo_id} on the Hub'} cannot be read as a text in UTF-8: "
            f"{reason}",
            action=f"save it as UTF-8, or {anew}",
        ) from None


def is_edited(card: str) -> bool:
    """Whether a card has text of its own, outside of the sections that hf-free writes."""
    return bool(_SECTION.sub("", _body(card)).strip())


def has_sections(card: str) -> bool:
    """Whether a card has sections that hf-free writes."""
    return _SECTION.search(card) is not None


def with_fresh_sections(card: str, fresh: str) -> str:
    """A card with its sections written anew; a section that was deleted stays so, but for the results.

    Metadata that hf-free writes are the new card's, others stay; tags are those of both.

    Args:
        card: The card that there is.
        fresh: The card that hf-free writes now.
    """
    now, placed = {match["name"]: match for match in _SECTION.finditer(fresh)}, set[str]()

    def anew(match: re.Match[str]) -> str:
        placed.add(match["name"])
        return (now.get(match["name"]) or match).group()

    body = _SECTION.sub(anew, _body(card))
    if RESULTS in now and RESULTS not in placed:
        body = f"{body.rstrip()}\n\n{now[RESULTS].group()}\n"
    return f"{_merged_front_matter(card, fresh)}\n{body.lstrip()}"


def _body(card: str) -> str:
    match = _FRONT_MATTER.match(card)
    return card if match is None else card[match.end() :]


def _merged_front_matter(card: str, fresh: str) -> str:
    old, new = _metadata(card), _metadata(fresh)
    stale = {*_OURS, *(("license_name", "license_link") if "license" in new else ())} - new.keys()
    merged = {key: value for key, value in old.items() if key not in stale} | new
    if tags := list(_united(list_of(old.get("tags")), list_of(new.get("tags")))):
        merged["tags"] = tags
    if merged == old:
        match = _FRONT_MATTER.match(card)
        return "" if match is None else match.group()
    return f"---\n{yaml.safe_dump(merged, sort_keys=False, allow_unicode=True)}---\n"


def _united(old: list[object], new: list[object]) -> Iterator[object]:
    yield from old
    yield from (tag for tag in new if tag not in old)


def _metadata(card: str) -> Json:
    """A card's metadata; none, with a warning, where they are none that can be read."""
    match = _FRONT_MATTER.match(card)
    try:
        values = yaml.safe_load(match["block"]) if match else None
    except (yaml.YAMLError, *STUMBLES) as error:
        reason = one_line(getattr(error, "problem", None) or error)[:200]
        values = None
    else:
        reason = "" if isinstance(values, dict | None) else "they are no mapping"
    if reason:
        logger.warning("the metadata of a card are written anew, as they cannot be read: %s", reason)
    return values if isinstance(values, dict) else {}
