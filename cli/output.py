"""The output folder of a run; the rules that keep an earlier run safe are those of `hf_free.run_folder`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path


class Interrupted(Exception):
    """A run that was stopped by the user; the message says how to go on."""


def default_output(recipe: str) -> Path:
    """A new folder's name from the recipe and the local time."""
    return Path("runs") / f"{recipe}-{datetime.now():%Y%m%d-%H%M%S}"
