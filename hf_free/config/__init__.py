"""What can be set: one validated tree, section by section."""

from __future__ import annotations

from hf_free.config.sections import BellConfig, FiveConfig, HubConfig, LearnerConfig, MemoryConfig, TrainerConfig
from hf_free.config.tree import FreeConfig

__all__ = ["BellConfig", "FiveConfig", "FreeConfig", "HubConfig", "LearnerConfig", "MemoryConfig", "TrainerConfig"]
