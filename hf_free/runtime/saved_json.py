"""Reading a JSON file that hf-free saved: regular, bounded, and an error of ours where it is damaged."""

from __future__ import annotations

import json
from pathlib import Path

from hf_free.errors import RunError
from hf_free.runtime.files import read_bounded
from hf_free.runtime.strict_json import why_no_json

_MOST_BYTES = 2**30
"""Most bytes of a saved file, so that a link to an endless device ends."""


def read_saved(path: Path, *, action: str) -> object:
    """The JSON of a file that hf-free saved and that something else may have damaged.

    Args:
        path: A regular file; a gigabyte at most, since a run of 100,000 teachers writes as many records.
        action: What to do where it is none.

    Raises:
        OSError: it cannot be read.
        RunError: it is not JSON, or is nested deeper than anything that is saved.
    """
    try:
        return json.loads(read_bounded(path, max_bytes=_MOST_BYTES))
    except ValueError as error:
        reason = why_no_json(error)
    except RecursionError:
        reason = "its values are nested too deeply"
    raise RunError(f"{path} cannot be read: {reason}", action=action)
