"""What one command has to say more than once is said once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def said_once() -> Iterator[None]:
    """A block that shows each warning once; where somebody has set up logging, all are passed on."""
    shown = logging.lastResort
    if shown is None:  # turned off
        yield
        return
    said = set[str]()

    def is_new(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if text in said:
            return False
        said.add(text)
        return True

    shown.addFilter(is_new)
    try:
        yield
    finally:
        shown.removeFilter(is_new)
