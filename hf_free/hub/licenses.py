"""What a license's identifier says, as far as a teacher's license may bind the learner: one definition for plan and
card."""

from __future__ import annotations

import re
from collections.abc import Mapping

_NON_COMMERCIAL = re.compile(r"(^|[^a-z])nc([^a-z]|$)|non-?commercial|research|(^|[^a-z])amlr([^a-z]|$)")
"""`cc-by-nc-4.0`, `h-research`, `intel-research`, and `apple-amlr`: Apple's "Machine Learning Research" license, for
research only (https://huggingface.co/docs/hub/repositories-licenses lists the identifiers)."""

UNREADABLE = "unknown (its README.md cannot be read)"
"""What stands for the license where there is a card that is no text or has no metadata that can be read: it may state
one."""

_MAX_LENGTH = 80
_MAX_TEXT = 300


def is_non_commercial(license_id: str | None) -> bool:
    """Whether a license's identifier says that it forbids commercial use, or allows research only."""
    return license_id is not None and _NON_COMMERCIAL.search(license_id.lower()) is not None


def is_unclear(license_id: str | None) -> bool:
    """Whether a stated license says nothing by its identifier: `unknown`, `other`, `other (a name)`."""
    return license_id is not None and re.match(r"(unknown|other)\b", license_id.strip().lower()) is not None


def stated_license(metadata: Mapping[str, object]) -> str | None:
    """The license in a card's metadata, None where there is none; `other` is given its name, as `other (name)`.

    Args:
        metadata: The YAML of a README.md; `license` is a text or a list of texts.
    """
    value = metadata.get("license")
    if isinstance(value, list):
        value = ", ".join(
            entry for entry in value if isinstance(entry, str)
        )  # through anchors others can grow without end
    if not isinstance(value, str) or not value.strip():
        return None
    name = metadata.get("license_name")
    if value.strip().lower() != "other" or not isinstance(name, str) or not name.strip():
        return value[:_MAX_TEXT]
    return f"{value.strip()} ({' '.join(name.split())[:_MAX_LENGTH]})"
