"""What can be set: one validated tree, section by section."""

from __future__ import annotations

from hf_free.config.tree import FreeConfig

__all__ = ["FreeConfig"]
