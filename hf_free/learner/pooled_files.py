"""Files of a pooled learner's teachers that lie in its own folder: `teachers/00/config.json` and so on."""

from __future__ import annotations

import shutil
from pathlib import Path

from torch import nn

from hf_free.learner.config_check import INCLUDED
from hf_free.learner.format import MAX_CONFIG_BYTES
from hf_free.learner.pooled_backbone import PooledBackbone
from hf_free.provenance.reading import list_of, object_of
from hf_free.runtime.strict_json import read_strict_json

FOLDER = "teachers"
FILES = ("config.json", "model.safetensors")
"""Of each teacher."""
PIXEL_FILES = ("processor_config.json", "preprocessor_config.json")
"""Also of transformers' teachers, where they have them: how photos are shown to them."""


def teacher_folder(place: int) -> str:
    """Where the files of the teacher at a place lie, below the learner's folder."""
    return f"{FOLDER}/{place:02d}"


def teacher_files(config: Path) -> list[str]:
    """The files that a learner's config.json says are with it, below its folder.

    No files where it cannot be read: refusing it is for others.
    """
    try:
        block = object_of(object_of(read_strict_json(config, max_bytes=MAX_CONFIG_BYTES)).get("hf_free"))
    except (OSError, ValueError):
        return []
    if object_of(block.get("learner")).get(INCLUDED) is not True:
        return []
    return [
        f"{teacher_folder(place)}/{name}"
        for place, teacher in enumerate(list_of(block.get("teachers")))
        for name in (*FILES, *(name for name in PIXEL_FILES if name in object_of(object_of(teacher).get("sha256"))))
    ]


def copy_teacher_files(backbone: nn.Module, target: Path) -> None:
    """Copy a pooled backbone's own files below a folder; does nothing where it has none, or where they are there
    already.

    The learner's config.json names each by its SHA-256, so that another learner's files in that place are detected.
    """
    if not isinstance(backbone, PooledBackbone) or backbone.included is None:
        shutil.rmtree(target / FOLDER, ignore_errors=True)  # an earlier learner's, which nothing names any more
        return
    if target.exists() and target.samefile(backbone.included):
        return
    for place in range(len(backbone.feature_sizes)):
        folder = target / teacher_folder(place)
        folder.mkdir(parents=True, exist_ok=True)
        for name in (*FILES, *PIXEL_FILES):
            source = backbone.included / teacher_folder(place) / name
            if name in FILES or source.is_file():
                shutil.copyfile(source, folder / name)
