"""Settings that had other names: files and records written with the old ones are read for ever."""

from __future__ import annotations

from collections.abc import Mapping

from hf_free.provenance.reading import Json

RENAMED = {
    "recipe": "method",
    "bell.damping": "learner.whitening",
    "bell.relevance": "learner.gating",
    "bell.shared_classes": "learner.shared_classes",
    "five.borrowed_batchnorm": "five.donor_batchnorm",
    "five.diversity": "five.similarity_hinge",
    "five.diversity_margin": "five.similarity_margin",
}
"""Old name -> the name it has now; both as `section.key`, or a key of the tree itself."""


def with_new_names(config: Mapping[str, object]) -> tuple[Json, dict[str, str]]:
    """A configuration under the names of today, and which of its settings had an old one, as old -> new.

    A setting that is there under both names keeps the value of its new one.
    """
    renamed = {key: dict(value) if isinstance(value, Mapping) else value for key, value in config.items()}
    found = {}
    for old, new in RENAMED.items():
        old_place, old_key = _place(renamed, old)
        if old_place is None or old_key not in old_place:
            continue
        value = old_place.pop(old_key)
        section, _, key = new.rpartition(".")
        place = renamed.setdefault(section, {}) if section else renamed
        if isinstance(place, dict):  # else it is refused with its own reason
            place.setdefault(key, value)
        found[old] = new
    return renamed, found


def _place(config: Json, name: str) -> tuple[Json | None, str]:
    section, _, key = name.rpartition(".")
    place = config.get(section) if section else config
    return (place if isinstance(place, dict) else None), key
