"""The output folder of a run: never overwritten by accident."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path


def default_output(method: str) -> Path:
    """A new folder's name from the method and the local time."""
    return Path("runs") / f"{method}-{datetime.now():%Y%m%d-%H%M%S}"
