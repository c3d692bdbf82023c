"""What a folder holds: a learner, or a classifier that was made of one. Neither may be saved over the other."""

from __future__ import annotations

from pathlib import Path

from hf_free.runtime.strict_json import read_strict_json

_MOST_BYTES = 8 * 2**20
"""Largest config.json that a learner may have."""


def holds_classifier(folder: Path) -> bool:
    """Whether a folder holds a classifier of hf-free."""
    return (folder / "classifier.json").is_file()


def holds_learner(folder: Path) -> bool:
    """Whether a folder holds a learner of hf-free and nothing made of it; a teacher has a config.json of the same
    form, without our block."""
    if holds_classifier(folder):
        return False
    try:
        config = read_strict_json(folder / "config.json", max_bytes=_MOST_BYTES)
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and isinstance(config.get("hf_free"), dict)
