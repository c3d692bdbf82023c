"""What a licence's identifier says, as far as a teacher's may bind the learner: one definition for plan and card."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_NON_COMMERCIAL = re.compile(r"(^|[^a-z])nc([^a-z]|$)|non-?commercial|research|(^|[^a-z])amlr([^a-z]|$)")
"""`cc-by-nc-4.0`, `h-research`, `intel-research`, and `apple-amlr`: Apple's "Machine Learning Research" licence, for
research only (https://huggingface.co/docs/hub/repositories-licenses lists the identifiers)."""

_MAX_LENGTH = 80


def is_non_commercial(license_id: str | None) -> bool:
    """Whether a licence's identifier says that it forbids commercial use, or allows research only."""
    return license_id is not None and _NON_COMMERCIAL.search(license_id.lower()) is not None


def is_unclear(license_id: str | None) -> bool:
    """Whether a stated licence says nothing by its identifier: `unknown`, `other`, `other (a name)`."""
    return license_id is not None and re.match(r"(unknown|other)\b", license_id.strip().lower()) is not None


def stated_license(metadata: Mapping[str, Any]) -> str | None:
    """The licence in a card's metadata, None where there is none; `other` is given its name, as `other (name)`.

    Args:
        metadata: The YAML of a README.md; `license` is a text or a list of texts.
    """
    value = metadata.get("license")
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    if not isinstance(value, str) or not value.strip():
        return None
    name = metadata.get("license_name")
    if value.strip().lower() != "other" or not isinstance(name, str) or not name.strip():
        return value
    return f"{value.strip()} ({' '.join(name.split())[:_MAX_LENGTH]})"


def licence_notes(teachers: Sequence[tuple[str, str | None]]) -> list[str]:
    """What there is to know of teachers' licences before a learner is made of them, a line a kind.

    Args:
        teachers: Name and licence's identifier of each; None where no licence is stated.
    """
    non_commercial = [f"{name} ({stated})" for name, stated in teachers if is_non_commercial(stated)]
    unclear = [
        f"{name} ({stated})" for name, stated in teachers if is_unclear(stated) and not is_non_commercial(stated)
    ]
    unlicensed = [name for name, stated in teachers if not stated]
    notes = []
    if non_commercial:
        notes.append(f"non-commercial licence: {listed(non_commercial)}; a learner made of them may be bound by it")
    if unclear:
        notes.append(f"licence unclear: {listed(unclear)}; read it before you publish a learner")
    if unlicensed:
        notes.append(f"no licence stated: {listed(unlicensed)}; ask the authors before you publish a learner")
    return notes


def listed(names: Sequence[str], shown: int = 3) -> str:
    """The first few names and how many more there are."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
