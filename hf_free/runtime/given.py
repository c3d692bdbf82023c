"""What callers of the Python interface give: paths, whole numbers, seeds. What cannot be one is refused by its name,
rather than by the words of whatever meets it first.
"""

from __future__ import annotations

import errno
import inspect
import math
import operator
import os
import sys
from pathlib import Path

from hf_free.errors import ConfigError, HfFreeError

LONGEST_PART = 255
"""Bytes of a file's name at most, on every file system that is common."""

LARGEST_SEED = 2**32 - 1
"""numpy takes no larger one."""

TOLD = ("what", "done", "total")
"""What a function that is told of progress is called with."""

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
    try:
        Path(text).absolute()
    except FileNotFoundError:
        given = f"{name}={short_form(text)}, and the folder that this process is in is gone"
        raise error(given, allowed="a whole path", action="os.chdir first") from None
    problem = why_no_path(text) or (why_no_weights(Path(text)) if for_weights else "")
    if problem:
        raise error(f"{name}={short_form(text)} {problem}", allowed="the path of a file or folder")
    return from_home(text)


def from_home(text: str | Path) -> Path:
    """A path whose `~` is the home folder; one that begins with the home of nobody stays as it is, as in a shell."""
    return Path(os.path.expanduser(text))


def real_path(path: str | Path) -> Path:
    """A whole path without links; one whose links lead in a circle stays, where `Path.resolve` raises."""
    return Path(os.path.realpath(path))


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
    if text.startswith("~") and os.path.expanduser(text) == text:
        return "begins with the home folder of a user that is not known here"
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
        str(from_home(path).absolute()).encode()
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


def check_minutes(value: object, name: str, *, ends: bool = False) -> None:
    """Refuse a length of time that is none; None knows no end.

    Args:
        value: What was given.
        name: The argument.
        ends: Whether it has to be a length, and one that ends: neither None nor 0 nor infinite.

    Raises:
        ConfigError: no such number.
    """
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not (0 < number < math.inf if ends else value is None or number >= 0):
        allowed = "a finite number of minutes above 0" if ends else "a number of minutes of at least 0, or None"
        raise ConfigError(f"{name}={short_form(value)}", allowed=allowed, action=f"{name}=30" if ends else "")


def given_seed(value: object) -> int:
    """A seed that was given.

    Raises:
        ConfigError: it is none.
    """
    return whole_number(value, "seed", least=0, most=LARGEST_SEED)


def check_kind(
    value: object,
    name: str,
    kind: type | tuple[type, ...],
    *,
    allowed: str,
    optional: bool = True,
    error: type[HfFreeError] = ConfigError,
) -> None:
    """Refuse an object of another type by the argument's name, before anything is done with it.

    Args:
        value: What was given.
        name: The argument.
        kind: The type that it has to have, or several.
        allowed: What that is in words.
        optional: Whether None is taken.
        error: The kind of error.

    Raises:
        HfFreeError: another type.
    """
    if not (isinstance(value, kind) or (optional and value is None)):
        raise error(f"{name}={short_form(value)} of type {type(value).__name__}", allowed=allowed)


def check_function(
    value: object, name: str, arguments: tuple[str, ...], *, error: type[HfFreeError] = ConfigError
) -> None:
    """Refuse what cannot be called as it will be; None is none.

    Args:
        value: What was given.
        name: The argument.
        arguments: What it will be called with, in this order.
        error: The kind of error.

    Raises:
        HfFreeError: no function, or one that takes other arguments.
    """
    if value is None:
        return
    if callable(value) and not _is_network(value):
        try:
            inspect.signature(value).bind(*arguments)
        except TypeError:
            pass
        except ValueError:  # some functions of C do not say what they take; a type such as int makes something of it
            if not isinstance(value, type):
                return
        else:
            return
    raise error(
        f"{name}={short_form(value)} of type {type(value).__name__}",
        allowed=f"None, or a function that takes {len(arguments)} arguments: {', '.join(arguments)}",
    )


def _is_network(value: object) -> bool:
    """Whether a function is a network of torch, which says of itself that it takes anything."""
    torch = sys.modules.get("torch")  # nobody has a network who has not imported it
    return torch is not None and isinstance(value, torch.nn.Module)


def check_flags(error: type[HfFreeError] = ConfigError, /, **given: object) -> None:
    """Refuse what is no truth value; the text "no" is none, though Python takes it for true, and None for false.

    Args:
        error: The kind of error.
        given: Each argument by its name.

    Raises:
        HfFreeError: anything but True and False, or 1 and 0, of Python or numpy.
    """
    for name, value in given.items():
        is_number = isinstance(value, int) or getattr(value, "shape", None) == ()
        if not (is_number and value in (0, 1)):
            raise error(f"{name}={short_form(value)} of type {type(value).__name__}", allowed="True or False")


def check_texts(error: type[HfFreeError] = ConfigError, /, **given: object) -> None:
    """Refuse what is neither a text nor None. The value is not shown: it may be a token.

    Args:
        error: The kind of error.
        given: Each argument by its name.

    Raises:
        HfFreeError: another type.
    """
    for name, value in given.items():
        if not (value is None or isinstance(value, str)):
            raise error(f"{name} of type {type(value).__name__}", allowed="a text, or None")


def check_cache_dir(value: object) -> None:
    """Refuse a folder of a cache that is none; None is the usual one.

    Raises:
        ConfigError: it is no path.
    """
    if value is not None:
        given_path(value, "cache_dir")


def short_form(value: object) -> str:
    """A value as it is written, its beginning where that is long; its type alone where it cannot be written."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # of a class of the caller's, whose words say nothing of the argument
        return f"<{type(value).__name__}>"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
