"""Output on a terminal that cannot show every letter: it gets similar ones or their codes, never an error."""

from __future__ import annotations

import codecs
import os
import sys
from typing import TextIO

NEAR = {
    "±": "+-", "×": "x", "–": "-", "—": "-", "−": "-", "…": "...", "·": ".", "•": "*", "→": "->", "≤": "<=", "≥": ">=",
    "‘": "'", "’": "'", "“": '"', "”": '"', "\N{REPLACEMENT CHARACTER}": "?", "\N{NO-BREAK SPACE}": " ",
}  # fmt: skip
"""What stands for a sign that a terminal cannot show; letters become `\\u00e9`."""

_HANDLER = "hf_free.near"


def replace_closed_streams(*names: str) -> None:
    """Where whoever started this process, or code in it, has closed one of these streams, let what is written there go
    nowhere; without names stdout and stderr."""
    for name in names or ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or stream.closed:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  (to the end of the process)


def speak_plainly(*streams: TextIO) -> None:
    """Let streams write every text, whatever their encoding; those that can write all are left as they are.

    UTF-8 has no letters for names of files that are none themselves, which a strict stream would end with.
    """
    for stream in streams:
        reconfigure = getattr(stream, "reconfigure", None)
        lacks = not can_write(stream, "".join(NEAR) + "\N{GRINNING FACE}")
        if reconfigure is not None and (lacks or stream.errors == "strict"):
            codecs.register_error(_HANDLER, _near)
            reconfigure(errors=_HANDLER)


def can_write(stream: TextIO, text: str) -> bool:
    """Whether a stream's encoding has every character of a text."""
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _near(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    texts = (NEAR.get(letter, letter.encode("ascii", "backslashreplace").decode()) for letter in _part(error))
    return "".join(texts), error.end


def _part(error: UnicodeEncodeError) -> str:
    return error.object[error.start : error.end]
