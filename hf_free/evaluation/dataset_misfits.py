"""Data sets whose files do not fit each other or their card: what differs, out of the errors of `datasets`."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from hf_free.runtime.given import short_form
from hf_free.runtime.text import listed

_MOST_SHOWN = 8
"""Most columns or splits that a message lists."""

_CORRECT_CARD = (
    "correct dataset_info in its README.md; where that is somebody else's: hf download ID --repo-type dataset "
    "--local-dir FOLDER, remove README.md from it and give the folder"
)
_CHOOSE_FILES = "make the columns alike, or give one of the files (a Parquet file, or a folder with those that fit)"


@dataclass(frozen=True)
class Misfit:
    """Why a data set cannot be read, what is allowed, and what to do."""

    reason: str
    allowed: str
    action: str


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those behind it."""
    for _ in range(8):
        if error is None:
            return
        yield error
        error = error.__cause__


def misfit_of(error: BaseException) -> Misfit | None:
    """What does not fit, where an error of `datasets` or one behind it says that; None for other errors."""
    return next((misfit for one in chain_of(error) if (misfit := _read(one)) is not None), None)


def _read(error: BaseException) -> Misfit | None:
    kind, said = type(error).__name__, str(error)
    if kind == "CastError":
        there = getattr(error, "table_column_names", None)
        wanted = getattr(error, "requested_column_names", None)
        columns = f"a file of it has the columns {_listed(there)}, and its card or its first file {_listed(wanted)}"
        return Misfit(columns, "the same columns in all files and in dataset_info of its README.md", _CHOOSE_FILES)
    if kind == "DatasetGenerationCastError":
        found = re.search(r"there are (.+?)(?:\n\n|$)", said)
        differ = f": {found[1].rstrip('.')}" if found else ""
        return Misfit(
            f"its files have different columns{differ}",
            "the same columns in all files and in dataset_info of its README.md",
            _CHOOSE_FILES,
        )
    if kind == "NonMatchingSplitsSizesError":
        pairs = re.findall(r"'(?:expected|recorded)': SplitInfo\(name='(.*?)',.*?num_examples=(\d+)", said)
        counts = [
            f"{_count(one[1])} in the split {one[0]}, and its files have {_count(other[1])}"
            for one, other in zip(pairs[::2], pairs[1::2], strict=False)
        ]
        rows = f" announces {'; '.join(counts[:_MOST_SHOWN])}" if counts else " announces other numbers of rows"
        return Misfit(f"its card{rows}", "as many rows as its card announces: some may be missing", _CORRECT_CARD)
    if kind in ("ExpectedMoreSplitsError", "UnexpectedSplitsError"):
        where = "its card names" if kind == "ExpectedMoreSplitsError" else "its files hold"
        lacking = "its files do not hold" if kind == "ExpectedMoreSplitsError" else "its card does not name"
        names = _listed(re.findall(r"'(.*?)'", said))
        return Misfit(f"{where} the splits {names}, which {lacking}", "the same splits in both", _CORRECT_CARD)
    if found := re.search(r"Class label (-?\d+) (?:less|greater) than (?:configured num_classes (\d+)|-1)", said):
        most = f", and its card or first file names {found[2]} classes" if found[2] else ""
        return Misfit(
            f"a file of it holds the label {found[1]}{most}", "labels that its class names count", _CORRECT_CARD
        )
    types = r"(?:Couldn't cast array of type|Unsupported cast from)\s+(.+?)\s+to\s+(.+?)(?: using function.*|$)"
    if found := re.search(types, said, re.DOTALL):
        of = f"{_type(found[1])} in one of its files, and {_type(found[2])} in its card or its first file"
        return Misfit(f"a column is {of}", "one type for each column", _CHOOSE_FILES)
    if re.search(r"value .+ (?:not in range|was truncated converting)", said):
        reason = "a number in one of its files is none of the type that its card or its first file gives the column"
        return Misfit(reason, "one type for each column", _CHOOSE_FILES)
    return None


def _listed(names: object) -> str:
    """Names that a data set gives, some of them."""
    if not isinstance(names, Collection) or isinstance(names, str):
        return "of other names"
    return listed([short_form(str(name)) for name in names], _MOST_SHOWN)


def _count(digits: str) -> str:
    return f"{int(digits[:18]):,} rows"


def _type(written: str) -> str:
    """A column's type as `datasets` writes it, on one line and shortened."""
    return " ".join(written.split())[:80]
