"""Settings as they are given: YAML files and `section.key=value`, one mapping over another.

`parse_assignments` reads `section.key=value` as `--set` does, and `merge` lays one reading over another.
"""

from __future__ import annotations

from collections.abc import Mapping

from hf_free.errors import ConfigError
from hf_free.runtime.given import short_form


def merge(base: Mapping[str, object], override: Mapping[str, object]) -> dict[str, object]:
    """Merge two nested mappings; the second wins, lists are replaced whole."""
    merged = dict(base)
    for key, value in override.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def merge_given(base: Mapping[str, object], override: Mapping[str, object], *, within: str = "") -> dict[str, object]:
    """`merge` what a user has given in two places, such as a file and flags.

    Args:
        base: The first.
        override: The second.
        within: What errors call the mappings, with a dot behind it.

    Raises:
        ConfigError: keys are given of what the first says is no mapping, and would be lost without a word.
    """
    merged = dict(base)
    for key, value in override.items():
        old = merged.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            merged[key] = merge_given(old, value, within=f"{within}{key}.")
            continue
        if isinstance(value, Mapping) and old is not None:
            raise ConfigError(
                f"{within}{key} = {short_form(old)}, and {within}{key}.{next(iter(value), '...')} is given too",
                allowed="a mapping of keys to values, where keys of it are given as well",
                action=f"correct {within}{key}, or leave its keys out",
            )
        merged[key] = value
    return merged
