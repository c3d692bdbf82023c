"""Another function in the place of one of ours, whichever modules have imported it by name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest


def replace_everywhere(monkeypatch: pytest.MonkeyPatch, target: str, replacement: Callable[..., Any]) -> None:
    """Let every loaded module of hf_free that knows `target` (`package.module.name`) call the replacement instead.

    Raises:
        AttributeError: no such function.
    """
    home, _, name = target.rpartition(".")
    original = getattr(import_module(home), name)
    for module in [module for key, module in sys.modules.items() if key.partition(".")[0] == "hf_free"]:
        for known in [known for known, value in vars(module).items() if value is original]:
            monkeypatch.setattr(module, known, replacement)
