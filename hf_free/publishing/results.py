"""Reports of results in a learner's record: what each was measured on, and which of them a new one replaces.

A report is `EvaluationReport.to_dict()`, as it stands in the record. Its data set is known by id, configuration,
split and revision where it is the Hub's, and by a fingerprint where it is a folder, whose path is not published.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_free.errors import TeacherReferenceError
from hf_free.hub.names import check_repo_id
from hf_free.provenance.reading import Json, list_of, object_of
from hf_free.provenance.results import EvaluationReport, ResultRow
from hf_free.runtime.strict_json import read_strict_json

MOST_RESULTS = 2**24
"""Most bytes of a results file."""

_PATH = re.compile(r"[./~\\]|[A-Za-z]:[\\/]|file:")
_OWN_ROW = re.compile(r"learner( \(not data-free\))?(, .*)?", re.DOTALL)


@dataclass(frozen=True)
class DataSetName:
    """What a report was measured on."""

    hub_id: str | None
    """`org/name`; None for the user's own pictures."""
    name: str
    """As it was given; of a folder, once it may be published, its name alone."""
    config: str | None
    """Configuration of a Hub data set, where one was named."""


def is_path(text: str) -> bool:
    """Whether a text reads as a path."""
    return _PATH.match(text) is not None


def folder_name(path: str) -> str:
    """The last part of a path; a trailing slash does not count."""
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1].strip(".~") or "a local folder"


def is_results_file(path: Path) -> bool:
    """Whether a file is what `hf-free evaluate --output` writes: it holds paths of this computer."""
    try:
        found = object_of(read_strict_json(path, max_bytes=MOST_RESULTS))
    except (OSError, ValueError):
        return False
    return isinstance(found.get("rows"), list) and {"dataset", "split"} <= found.keys()


def valid_id(repo_id: object) -> str | None:
    """A Hub id `org/name`, or None."""
    try:
        return check_repo_id(str(repo_id)) if repo_id else None
    except TeacherReferenceError:
        return None


def is_own_row(method: str) -> bool:
    """Whether a row's method is the learner itself, not something that it is compared with."""
    return _OWN_ROW.fullmatch(method) is not None


def is_local_source(source: str) -> bool:
    """Whether a data set that is being read lies on this computer, possibly with a configuration after a colon."""
    return is_path(source) or Path(source).exists() or Path(source.partition(":")[0]).exists()


def fingerprint(source: str, class_names: Sequence[str], pictures: Sequence[int]) -> str:
    """12 hexadecimal digits that tell folders of one name apart when their paths are left out.

    Args:
        source: The folder.
        class_names: Its classes.
        pictures: Number of pictures of each class.
    """
    content = [folder_name(source), list(zip(map(str, class_names), map(int, pictures), strict=True))]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


def data_set(report: EvaluationReport) -> DataSetName:
    """What a report was measured on; reports that do not say whether it was a folder are judged by the text."""
    source, local = report.dataset, report.local
    if local is None:
        local = not valid_id(source.partition(":")[0]) or is_local_source(source)
    if local:
        return DataSetName(None, source or "pictures", None)
    repo_id, _, config = source.partition(":")
    return DataSetName(repo_id, source, config or None)


def with_results(earlier: Iterable[Json], new: Json) -> list[Json]:
    """The reports of a learner with a new one, which replaces what was measured before in the same way.

    Earlier rows on the same data stay if they have another way or shot.

    Args:
        earlier: Reports as they stand in the record; keys of later versions stay in them.
        new: The new one in the same form.
    """
    added = EvaluationReport.from_dict(new)
    settings = {_setting(row) for row in added.rows}
    kept = []
    for report in earlier:
        read = EvaluationReport.from_dict(report)
        if _same_data(read, added):
            rows = [
                row
                for row, known in zip(list_of(report.get("rows")), read.rows, strict=True)
                if _setting(known) not in settings
            ]
            if rows:
                kept.append({**report, "rows": rows})
        else:
            kept.append(report)
    return [*kept, new]


def without_paths(reports: Iterable[Json]) -> list[Json]:
    """Reports in which folders are named without their paths; different folders keep different names.

    Rows that a later report replaces are left out, as in `with_results`.
    """
    merged: list[Json] = []
    for report in reports:
        merged = with_results(merged, report)
    names: dict[str, str] = {}  # by what identifies a folder
    named = []
    for report in merged:
        read = EvaluationReport.from_dict(report)
        if data_set(read).hub_id is None and read.dataset:
            folder = read.fingerprint or read.dataset
            if folder not in names:
                names[folder] = _unlike(folder_name(read.dataset), names.values())
            report = {**report, "dataset": names[folder]}
        named.append(report)
    return named


def plain(value: object) -> Any:
    """A deep copy in types that YAML can write: no numbers or arrays of numpy and torch, no tuples, no paths."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner) for inner in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    return value


def _unlike(name: str, taken: Iterable[str]) -> str:
    """The name, with a number where it is taken."""
    used, number, found = set(taken), 1, name
    while found in used:
        number += 1
        found = f"{name} ({number})"
    return found


def _setting(row: ResultRow) -> tuple[int, int]:
    return row.n_way, row.k_shot


def _same_data(first: EvaluationReport, second: EvaluationReport) -> bool:
    """Whether two reports were measured on the same pictures, as far as they say."""
    if (first.split, first.revision) != (second.split, second.revision):
        return False
    names = [data_set(first), data_set(second)]
    if any(name.hub_id for name in names):
        return names[0] == names[1]
    if first.fingerprint and second.fingerprint:
        return first.fingerprint == second.fingerprint
    if is_path(first.dataset) and is_path(second.dataset):
        return first.dataset == second.dataset
    return folder_name(first.dataset) == folder_name(second.dataset)  # one has lost its path already
