"""`report`: one HTML page about one or more runs, read from their folders; nothing in them is changed."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from hf_free.errors import HfFreeError, RunError
from hf_free.learner.format import CLASSIFIER_CONFIG, MAX_CONFIG_BYTES
from hf_free.learner.meta_learner import MetaLearner
from hf_free.memory.kept_pictures import KeptPictures, read_kept
from hf_free.provenance.learner_record import LearnerRecord
from hf_free.provenance.reading import Json, list_of, object_of
from hf_free.provenance.teacher_record import TeacherRecord
from hf_free.publishing.redaction import redacted
from hf_free.publishing.results import MOST_RESULTS, folder_name, with_results
from hf_free.reporting.naming import class_name, class_names, teacher_names
from hf_free.reporting.report_page import report_page
from hf_free.reporting.reported_run import ClassMap, ClassPictures, ReportedRun
from hf_free.reporting.tsne import in_plane
from hf_free.runtime.files import read_bounded, write_text
from hf_free.runtime.given import check_flags, check_texts, given_path, short_form
from hf_free.runtime.saved_json import read_saved
from hf_free.runtime.strict_json import read_strict_json, why_no_json
from hf_free.runtime.text import others_words
from hf_free.training.folder import CONFIG_FILE, RunFolder

logger = logging.getLogger(__name__)

CLASSES, PICTURES = 36, 6
"""Most classes of a run that are shown, and pictures of each: about 0.4 MB of a page at 32 pixels."""

MAP_CLASSES, MAP_PICTURES = 10, 15
"""Classes and pictures of each on the map."""

_NUMBERS: dict[str, tuple[tuple[type, ...], float, float]] = {
    "n_way": ((int,), 2, math.inf),
    "k_shot": ((int,), 1, math.inf),
    "episodes": ((int,), 1, math.inf),
    "n_query": ((int,), 1, math.inf),
    "accuracy": ((int, float), 0, 100),
    "interval": ((int, float), 0, 100),
    "ahead": ((int, float), -100, 100),
    "ahead_interval": ((int, float), 0, 100),
}
"""The numbers of a row of results, where it has them: their types, and between what they lie."""

_PNG = b"\x89PNG\r\n\x1a\n"

MOST_FIGURE = 2**26
"""Most bytes of a figure."""

PAGE_SUFFIXES = (".html", ".htm")
"""How the name of a page ends."""

RESULTS = "results.json"
"""What `hf-free evaluate --output RUN/results.json` leaves in a run's folder."""


def report(
    runs: Sequence[str | Path],
    output: str | Path,
    *,
    results: Iterable[str | Path] = (),
    draws_map: bool = True,
) -> Path:
    """Write one self-contained HTML page about runs: figures, pictures, tables; no network, no scripts.

    Private and gated teachers are not named on it, and paths shrink to their last part.

    Args:
        runs: Folders of runs, finished or not, or of learners (pooled ones too). Several stand side by side.
        output: The file to write, whole or not at all.
        results: Further files that `hf-free evaluate --output` wrote; they belong to the first run.
        draws_map: Whether the learner is loaded to draw how it sees its classes, which takes some seconds.

    Returns:
        The file.

    Raises:
        RunError: a folder that is neither, no file of results, or an output that is no page.
    """
    if any(isinstance(one, str | Path) or not isinstance(one, Iterable) for one in (runs, results)):
        given = f"runs={short_form(runs)}, results={short_form(results)}"
        raise RunError(given, allowed="lists of folders and of files", action="report([FOLDER], OUTPUT)")
    runs, page = list(runs), given_path(output, "output", error=RunError)
    if not runs:
        raise RunError("no run to report on", allowed="one or more folders", action="hf-free report RUN")
    folders = [given_path(run, "run", error=RunError) for run in runs]
    check_page(page)
    names = _names(folders)
    measured = [_read_given_results(given_path(path, "results", error=RunError)) for path in results]
    for folder in folders:
        if (folder / CLASSIFIER_CONFIG).is_file():
            logger.warning("%s is a classifier: the page is about its learner", folder)
    read = [
        read_run(folder, name, results=measured if place == 0 else (), draws_map=draws_map)
        for place, (folder, name) in enumerate(zip(folders, names, strict=True))
    ]
    return write_text(page, report_page(read))


def check_page(page: Path) -> None:
    """Refuse an output that is no page, before the runs are read: what a run consists of has other endings.

    Raises:
        RunError: it is a folder, or has another ending.
    """
    if page.is_dir() or page.suffix.lower() not in PAGE_SUFFIXES:
        raise RunError(
            f"the output {page}", allowed=f"a file that ends in {' or '.join(PAGE_SUFFIXES)}", action="report.html"
        )


def default_page(folder: Path) -> Path:
    """Where the page about a run goes: into its folder; beside a learner's, all of which is published with a push."""
    if (folder / CONFIG_FILE).is_file():
        return folder / "report.html"
    beside = folder.parent if folder.name not in ("", "..") else folder.absolute().parent
    return beside / f"{folder_name(str(folder.absolute()))}-report.html"


def read_run(
    folder: str | Path, name: str = "", *, results: Sequence[Json] = (), draws_map: bool = True
) -> ReportedRun:
    """What a report shows of a run's folder, or of a learner's.

    Args:
        folder: The folder.
        name: What the run is called; its folder's name without one.
        results: Reports of `hf-free evaluate` besides those of the folder.
        draws_map: See `report`.

    Raises:
        RunError: it is neither.
    """
    folder = given_path(folder, "folder", error=RunError)
    check_texts(RunError, name=name)
    check_flags(RunError, draws_map=draws_map)
    is_list = isinstance(results, Sequence) and not isinstance(results, str)
    if not is_list or not all(isinstance(one, Mapping) for one in results):
        raise RunError(f"results={short_form(results)}", allowed="a list of reports of hf-free evaluate")
    run = RunFolder(folder)
    is_run = run.config.is_file()
    learner = run.learner if (run.learner / "config.json").is_file() else folder
    block = _block(learner / "config.json") if not is_run or learner != folder else None
    if not is_run and block is None:
        raise RunError(
            f"{folder} is neither a run nor a learner{_why_unreadable(learner / 'config.json')}",
            allowed=f"a folder with {CONFIG_FILE} of hf-free train, or with config.json of a learner",
            action="name the --output of hf-free train or hf-free pool",
        )
    if block is None and learner != folder:
        logger.warning("the learner is left out: %s%s", learner, _why_unreadable(learner / "config.json"))
    name = name or folder_name(str(folder.absolute()))
    private = block if block is not None else _unfinished(run)
    results = [*_own_results(folder / RESULTS), *results]
    reports: list[Json] = list_of(private.get("results"))
    for measured in results:
        reports = with_results(reports, measured)
    record = redacted(LearnerRecord.from_dict({**private, "results": reports}))
    kept = _kept(run) if is_run else None
    return ReportedRun(
        name=name,
        record=record,
        is_finished=block is not None,
        is_pooled=record.is_pooled,
        log=run.read_log() if is_run else (),
        recovered=() if kept is None else _pictures(kept),
        classes_in_all=0 if kept is None else kept.read.classes_in_all,
        pictures_in_all=0 if kept is None else kept.read.pictures_in_all,
        class_map=_map(learner, kept) if kept is not None and block is not None and draws_map else None,
        views=_figure(run.pictures / "teachers.png") if is_run else b"",
        teachers=_teacher_names(record),
    )


class _Kept(NamedTuple):
    """Recovered pictures of a checkpoint, and whose they are."""

    read: KeptPictures
    records: list[TeacherRecord]


def _names(folders: Sequence[Path]) -> list[str]:
    """A run's folder name; with the folder above it where two are the same, else numbered."""
    paths = [folder.absolute() for folder in folders]
    short = [folder_name(str(path)) for path in paths]
    longer = [
        f"{path.parent.name}/{name}" if short.count(name) > 1 else name
        for path, name in zip(paths, short, strict=True)
    ]
    return [f"{name} ({place})" if longer.count(name) > 1 else name for place, name in enumerate(longer, 1)]


def _block(path: Path) -> Json | None:
    """The `hf_free` block of a learner's config.json; None where it is none."""
    try:
        content = read_strict_json(path, max_bytes=MAX_CONFIG_BYTES)
    except (OSError, ValueError):
        return None
    block = object_of(content).get("hf_free")
    return object_of(block) if isinstance(block, dict) else None


def _why_unreadable(config: Path) -> str:
    """Why a learner's config.json cannot be read, to be put behind a sentence; empty where there is none or it can."""
    try:
        read_strict_json(config, max_bytes=MAX_CONFIG_BYTES)
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        return f": its {config.name} cannot be read: {why_no_json(error)}"
    return ""


def _figure(path: Path) -> bytes:
    """A figure of the run's folder; empty where there is none that can be read."""
    try:
        data = read_bounded(path, max_bytes=MOST_FIGURE)
    except FileNotFoundError:
        return b""
    except (OSError, ValueError) as error:
        logger.warning("%s is left out: %s", path.name, why_no_json(error))
        return b""
    if not data.startswith(_PNG):
        logger.warning("%s is left out: it is no PNG", path.name)
        return b""
    return data


def _unfinished(run: RunFolder) -> Json:
    """What is known about a run without a learner: its configuration, its teachers, and its counts so far."""
    state = run.checkpoint_state() or {}
    if not state and run.checkpoints.folders():
        logger.warning("what the run has come to is left out: %s has no checkpoint that can be read", run.root)
    known = _read_object(run.teachers)
    seconds = state.get("seconds")
    return {
        "config": run.read_config().to_dict(),
        "teachers": list_of(known.get("teachers")),
        "skipped": list_of(state.get("skipped")),
        "left_out": object_of(state.get("left_out")),
        "recovered": {"tasks": state.get("kept_tasks"), "images": state.get("pictures")},
        "training": {
            "steps": state.get("step"),
            "minutes": round(seconds / 60, 2) if isinstance(seconds, (int, float)) else None,
        },
    }


def _read_object(path: Path) -> Json:
    """A JSON object of the run's folder; empty, with a warning, where it cannot be read."""
    try:
        return object_of(read_saved(path, action=""))
    except FileNotFoundError:
        return {}
    except (OSError, RunError) as error:
        said = error.given if isinstance(error, RunError) else f"{path.name}: {error.strerror}"
        logger.warning("left out: %s", said)
        return {}


def _read_results(path: Path) -> Json:
    """A report that `hf-free evaluate --output` wrote."""
    try:
        found = object_of(read_strict_json(path, max_bytes=MOST_RESULTS))
    except (OSError, ValueError) as error:
        raise _no_results(path, why_no_json(error)) from None
    if not all(isinstance(row, dict) for row in list_of(found.get("rows"))) or "dataset" not in found:
        raise _no_results(path, "it has no rows on a data set")
    for row in map(object_of, list_of(found.get("rows"))):
        if not isinstance(row.get("method"), (str, type(None))):
            raise _no_results(path, f"method of a row is {short_form(row['method'])}")
        for key, (kinds, least, most) in _NUMBERS.items():
            number: Any = row.get(key)
            is_number = isinstance(number, kinds) and not isinstance(number, bool)
            if number is not None and not (is_number and least <= number <= most):
                raise _no_results(path, f"{key} of a row is {short_form(number)}")
    return found


def _read_given_results(path: Path) -> Json:
    """A report that somebody names; the page says so, since the file does not tell which learner was measured."""
    found = _read_results(path)
    origin = f"from {path.name}, named when the page was made; which learner it is of, it does not say"
    return {**found, "warnings": [*list_of(found.get("warnings")), origin]}


def _own_results(path: Path) -> list[Json]:
    """The results in a folder; a file of that name that holds something else is left out with a warning."""
    if not path.is_file():
        return []
    try:
        return [_read_results(path)]
    except RunError as error:
        logger.warning("left out: %s", error.given)
        return []


def _no_results(path: Path, why: str) -> RunError:
    return RunError(
        f"{path} holds no results: {why}",
        allowed="a file of hf-free evaluate --output",
        action="measure the learner again, or move the file away",
    )


def _kept(run: RunFolder) -> _Kept | None:
    """Some of the pictures that the newest checkpoint keeps; None where there is none that can be read."""
    if not run.checkpoints.folders():
        return None
    try:
        entries = list_of(_read_object(run.teachers).get("teachers"))
        records = [TeacherRecord.from_dict(object_of(entry)) for entry in entries]
        checkpoint = run.whole_checkpoint().folder
        read = read_kept(checkpoint / "memory.safetensors", classes=CLASSES, pictures=MAP_PICTURES)
    except (HfFreeError, OSError, KeyError, TypeError, SafetensorError) as error:
        reason = error.given if isinstance(error, HfFreeError) else others_words(error)
        logger.warning("the recovered pictures are left out: %s", reason)
        return None
    if any(kept.key.teacher >= len(records) for kept in read.classes):
        logger.warning("the recovered pictures are left out: %s does not name all teachers", run.teachers.name)
        return None
    if not read.classes:
        return None
    return _Kept(read, records)


def _pictures(kept: _Kept) -> list[ClassPictures]:
    names = _safe_names(kept.records)
    shown = []
    for one in kept.read.classes:
        record, pixels = kept.records[one.key.teacher], one.images[-PICTURES:]
        label = class_name(record, one.key.teacher, one.key.index)
        shown.append(ClassPictures(names[one.key.teacher], label, _rgb(pixels)))
    return shown


def _safe_names(records: Sequence[TeacherRecord]) -> list[str]:
    """A teacher's name without the folders above it, which are this computer's."""
    return [
        f"{place}: {folder_name(record.reference)}" if record.repo_id is None and not record.is_hidden else name
        for place, (record, name) in enumerate(zip(records, teacher_names(records), strict=True), 1)
    ]


def _teacher_names(record: LearnerRecord) -> list[str]:
    return [teacher.repo_id or teacher.reference or "unnamed" for teacher in record.teachers]


def _rgb(images: Tensor) -> np.ndarray:
    """(N, 1 or 3, H, W) uint8 -> (N, H, W, 3)."""
    return images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().numpy()


def _map(learner: Path, kept: _Kept) -> ClassMap | None:
    """How the learner sees some classes; None where it cannot be loaded or too few pictures are there."""
    chosen = sorted(kept.read.classes, key=lambda one: one.key.index)[:MAP_CLASSES]
    chosen = [one for one in chosen if len(one.images) > 1]
    images = [picture for one in chosen for picture in one.images]
    if len(chosen) < 2 or len(images) < 4:
        return None
    try:
        network = MetaLearner.from_pretrained(learner).eval()
        with torch.no_grad():
            features = network.embed(torch.stack(images))
    except (HfFreeError, OSError) as error:
        logger.warning("no map of classes: the learner cannot be loaded: %s", error)
        return None
    labels = np.repeat(np.arange(len(chosen)), [len(one.images) for one in chosen])
    names = _safe_names(kept.records)
    owners = [(kept.records[one.key.teacher], one.key.teacher, one.key.index) for one in chosen]
    return ClassMap(in_plane(features.cpu(), 0), labels, class_names(owners, names))
