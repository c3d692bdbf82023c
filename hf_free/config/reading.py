"""Settings as they are given: YAML files and `section.key=value`, one mapping over another.

`parse_assignments` reads `section.key=value` as `--set` does, and `merge` lays one reading over another.
"""

from __future__ import annotations

from collections.abc import Mapping


def merge(base: Mapping[str, object], override: Mapping[str, object]) -> dict[str, object]:
    """Merge two nested mappings; the second wins, lists are replaced whole."""
    merged = dict(base)
    for key, value in override.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged
