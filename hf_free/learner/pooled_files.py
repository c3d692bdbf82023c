"""Files of a pooled learner's teachers that lie in its own folder: `teachers/00/config.json` and so on."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from hf_free.errors import LearnerError
from hf_free.learner.config_check import INCLUDED
from hf_free.learner.format import MAX_CONFIG_BYTES, STAGING
from hf_free.learner.pooled_backbone import PooledBackbone
from hf_free.provenance.reading import list_of, object_of
from hf_free.provenance.teacher_record import FILES, PIXEL_FILES
from hf_free.runtime.strict_json import read_strict_json

FOLDER = "teachers"


def teacher_folder(place: int) -> str:
    """Where the files of the teacher at a place lie, below the learner's folder."""
    return f"{FOLDER}/{place:02d}"


def named_teacher_files(content: object) -> dict[str, str]:
    """The SHA-256 of each teacher's file that a learner's parsed config.json says is with it, by its path below the
    learner's folder; an empty text where it names none.

    No files where it is no such config.json: refusing it is for others.
    """
    block = object_of(object_of(content).get("hf_free"))
    if object_of(block.get("learner")).get(INCLUDED) is not True:
        return {}
    found = {}
    for place, teacher in enumerate(list_of(block.get("teachers"))):
        hashes = object_of(object_of(teacher).get("sha256"))
        for name in (*FILES, *(name for name in PIXEL_FILES if name in hashes)):
            sha256 = hashes.get(name)
            found[f"{teacher_folder(place)}/{name}"] = sha256 if isinstance(sha256, str) else ""
    return found


def teacher_files(config: Path) -> dict[str, str]:
    """`named_teacher_files` of a file; none where it cannot be read."""
    try:
        return named_teacher_files(read_strict_json(config, max_bytes=MAX_CONFIG_BYTES))
    except (OSError, ValueError):
        return {}


def files_to_bring(backbone: nn.Module, target: Path) -> dict[str, Path]:
    """The teachers' files that a learner has to take with it when it is saved: by their path below its folder, where
    they lie now. None where its teachers have no files of its own, or where these lie in that folder already.

    Args:
        backbone: The learner's.
        target: The folder that it is saved into.

    Raises:
        LearnerError: files that are gone.
    """
    if not isinstance(backbone, PooledBackbone) or backbone.included is None:
        return {}
    included = backbone.included.absolute()
    whose = included.parent if included.name.startswith(STAGING) else included  # what an interrupted save has left
    if target.exists() and whose.exists() and target.samefile(whose):
        return {}
    found = {}
    for place in range(len(backbone.feature_sizes)):
        for name in (*FILES, *PIXEL_FILES):
            source = included / teacher_folder(place) / name
            if source.is_file():
                found[f"{teacher_folder(place)}/{name}"] = source
            elif name in FILES:
                given = f"the learner's teacher {place + 1} has no {source} any more"
                raise LearnerError(given, action="load the learner again")
    return found


def copy_files(files: Mapping[str, Path], target: Path) -> None:
    """Copy what `files_to_bring` found below a folder."""
    for name, source in files.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target / name)
