"""Numbers with units, ranges, lists: texts for people."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from hf_free.errors import ConfigError

_ADDRESS = re.compile(r"([A-Za-z][\w+.-]*://)(?:[^\s/?#'\"<>@]*@)?([^\s?#'\"<>]*)([?#][^\s'\"<>]*)?", re.ASCII)
"""An address: what stands before an @ is a password, what follows a ? may be a signature."""

_TOKEN = re.compile(r"\b(hf_)[A-Za-z0-9]{16,}|\b(bearer )\S+", re.IGNORECASE)
"""An access token of the Hub (`hf_` and 34 letters or so), or whatever a header calls one."""

_PATH = re.compile(r"(?<![\w.~/:])~?/(?:[^\s/'\"<>:,;()\[\]]+/)+|\b[A-Za-z]:\\(?:[^\\\s'\"<>:,;()]+\\)+")
"""The folders of an absolute path; the name of its file is left."""

_SAID = 200
"""Letters of another library's words at most."""

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def figure_text(value: float) -> str:
    """Two decimals, such as 0.34; from 100,000 on a power of ten, such as 2.3e+10."""
    return f"{value:.2f}" if abs(value) < 1e5 else f"{value:.1e}"


def format_classes(classes: tuple[int, ...]) -> str:
    """Print class indices so that `parse_classes` reads the same tuple; runs of three or more become ranges."""
    runs: list[list[int]] = []
    for index in classes:
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in runs)


def listed(names: Sequence[str], shown: int = 3) -> str:
    """The first few names and how many more there are."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def alike(names: Iterable[str]) -> list[list[str]]:
    """Names that people may take for one: they differ in blanks, in case (of several letters), or in how accents are
    put together, as folders do that come from another system."""
    found: dict[str, list[str]] = {}
    for name in names:
        plain = " ".join(unicodedata.normalize("NFKC", name).split())
        found.setdefault(plain.casefold() if len(plain) > 1 else plain, []).append(name)
    return [same for same in found.values() if len(same) > 1]


def with_prefix(number: float, units: Sequence[str]) -> str:
    """A number with three digits in the unit that suits it; each unit is a thousand of the one before."""
    for unit in units[:-1]:
        if number < 999.5:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g}{units[-1]}"


def parse_bytes(amount: int | str, *, flag: str = "--teacher-memory") -> int:
    """Read an amount of memory: `4GiB`, `500MB`, `1.5 GB`, or a number of bytes; `flag` is named where it is none.

    Raises:
        ConfigError: anything else, or less than one byte.
    """
    text = amount if isinstance(amount, str) else str(amount) if abs(amount) < 2**64 else "more than 2**64 bytes"
    match = re.fullmatch(r"\s*(\d{1,20}(?:\.\d{1,20})?)\s*([kmgt]i?|)b?\s*", text, re.IGNORECASE)
    number = int(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
    if number < 1:
        raise ConfigError(
            f"{text[:60]!r} is not an amount of memory",
            allowed="a number with B, KB, MB, GB, TB, KiB, MiB, GiB or TiB",
            action=f"e.g. {flag} 4GiB",
        )
    return number


def size_text(size: int) -> str:
    """A number of bytes in the largest unit that leaves at least 1: `4 GiB`, `97.7 KiB`, `12 B`."""
    for unit in ("T", "G", "M", "K"):
        if size >= _UNITS[f"{unit}I"]:
            return f"{size / _UNITS[f'{unit}I']:.4g} {unit}iB"
    return f"{size} B"


def count_text(number: float) -> str:
    """A number in three digits with a decimal prefix: `930`, `27.3 k`, `1.21 M`."""
    return with_prefix(number, ("", " k", " M", " G"))


def decimal_size_text(size: float) -> str:
    """A number of bytes in thousands, as the Hub and disks count them: `0.93 kB`, `45.8 MB`, `1.2 GB`."""
    return with_prefix(size / 1e3, (" kB", " MB", " GB", " TB"))


def printable(value: object, *, keep: str = "", instead: str = "\N{REPLACEMENT CHARACTER}") -> str:
    """A stranger's text made harmless to a terminal: no colors, no line ends, no invisible letters.

    Args:
        value: The text.
        keep: Characters that stay though they cannot be printed, a line end for instance.
        instead: What stands for each of the others.
    """
    return "".join(char if char.isprintable() or char in keep else instead for char in str(value))


def one_line(value: object) -> str:
    """A text on one line without control characters; blanks in a row become one."""
    return " ".join(printable(value, instead=" ").split())


def others_words(error: BaseException) -> str:
    """What another library says of a failure, to stand behind what we say: short, on one line, without secrets, paths
    of this computer, or what a library adds of its own code."""
    said = re.split(r"Traceback \(most recent|Exception raised from", without_secrets(error))[0]
    said = re.sub(r"\[[^\]\s]+\.(?:cc|cpp|h|hpp|py):\d+\]\s*", "", said)  # a line of its source
    text = one_line(_PATH.sub("", f"{type(error).__name__}: {said}"[:2000]))
    return (text if len(text) <= _SAID else f"{text[:_SAID].rstrip()}...").rstrip(": ")


def spreadsheet_cell(value: object) -> str:
    """A stranger's text as a cell of a CSV file: on one line, and no formula to a spreadsheet.

    Spreadsheets run what begins with one of = + - @ (OWASP, "CSV Injection"); an apostrophe before it makes it a
    text again. Numbers stay numbers.
    """
    text = one_line(value)
    is_formula = text[:1] in tuple("=+-@") and not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text)
    return f"'{text}" if is_formula else text


def without_secrets(text: object) -> str:
    """A text without secrets: the query of an address (signed ones are permissions), passwords, tokens."""
    kept = _ADDRESS.sub(lambda found: f"{found[1]}{found[2]}{'?...' if found[3] else ''}", str(text))
    return _TOKEN.sub(lambda found: f"{found[1] or found[2]}...", kept)
