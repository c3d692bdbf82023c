"""How settings are laid over each other: recipe, YAML file, flags, `--set`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hf_free.config.tree import FreeConfig


def build_config(flags: dict[str, Any], *, config: Path | None, assignments: Sequence[str]) -> FreeConfig:
    """Lay the recipe's values, the YAML file, the flags and the assignments over each other.

    Args:
        flags: Nested values; None means the flag was not given.
        config: A YAML file.
        assignments: `section.key=value` texts.

    Raises:
        ConfigError: an unknown key, an impossible value, a file that cannot be read.
    """
    from hf_free.config.tree import FreeConfig

    return FreeConfig.load(config, values=_without_none(flags), assignments=assignments)


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    kept = {key: _without_none(value) if isinstance(value, dict) else value for key, value in values.items()}
    return {key: value for key, value in kept.items() if value is not None and value != {}}
