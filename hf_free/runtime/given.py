"""What callers of the Python interface give: paths, whole numbers, seeds. What cannot be one is refused by its name,
rather than by the words of whatever meets it first.
"""

from __future__ import annotations

import errno
import operator
import os
from pathlib import Path

from hf_free.errors import ConfigError, HfFreeError

LONGEST_PART = 255
"""Bytes of a file's name at most, on every file system that is common."""

LARGEST_SEED = 2**32 - 1
"""numpy takes no larger one."""

SHOWN = 80
"""Letters of a value that a message shows."""


def given_path(value: object, name: str, *, error: type[HfFreeError] = ConfigError, for_weights: bool = False) -> Path:
    """A path that was given, `~` being the home folder.

    Args:
        value: A text or a path.
        name: What it is for, such as `output`.
        error: The kind of error.
        for_weights: Whether weights are written there, which safetensors reads again only by a name in UTF-8.

    Raises:
        HfFreeError: it is of another type, empty, holds a zero character, or is too long for any file system.
    """
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        given = f"{name}={short_form(value)} of type {type(value).__name__}"
        raise error(given, allowed="a text or a pathlib.Path")
    text = os.fspath(value)
    problem = why_no_path(text) or (why_no_weights(Path(text)) if for_weights else "")
    if problem:
        raise error(f"{name}={short_form(text)} {problem}", allowed="the path of a file or folder")
    return Path(text).expanduser()


def why_no_path(text: str) -> str:
    """Why a text is the path of nothing, not even of something that is still to be made; empty where it may be one."""
    if not text:
        return "is empty"
    if "\0" in text:
        return "holds a zero character"
    try:
        parts = [os.fsencode(part) for part in Path(text).parts]
    except UnicodeEncodeError:
        return "holds half of a surrogate pair, which no file's name can"
    if any(len(part) > LONGEST_PART for part in parts):
        return f"has a name of more than {LONGEST_PART} bytes"
    try:
        os.lstat(text)
    except OSError as failure:
        if failure.errno == errno.ENAMETOOLONG:
            return "is too long for this system"
    return ""


def why_no_weights(path: Path) -> str:
    """Why weights that lie below a path could not be read again; empty where they could."""
    try:
        str(path.expanduser().absolute()).encode()
    except UnicodeEncodeError:
        return "holds bytes that are no UTF-8, by which no weights can be opened"
    return ""


def whole_number(
    value: object, name: str, *, least: int, most: int | None = None, error: type[HfFreeError] = ConfigError
) -> int:
    """A whole number that was given; numpy's are some too, truth values are none.

    Args:
        value: What was given.
        name: The argument.
        least: The smallest that is allowed.
        most: The largest; None knows none.
        error: The kind of error.

    Raises:
        HfFreeError: another type, a fraction, or a number out of range.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]  # it asks itself
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        allowed = f"a whole number of at least {least}" + ("" if most is None else f" and at most {most}")
        raise error(f"{name}={short_form(value)}", allowed=allowed)
    return number


def given_seed(value: object) -> int:
    """A seed that was given.

    Raises:
        ConfigError: it is none.
    """
    return whole_number(value, "seed", least=0, most=LARGEST_SEED)


def short_form(value: object) -> str:
    """A value as it is written, its beginning where that is long."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
