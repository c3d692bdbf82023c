"""A teacher's files, and its `config.json` with a YAML list's fields laid over it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hf_free.backbones.weights import read_header
from hf_free.errors import HubError, TeacherError
from hf_free.hub.snapshot import Snapshot, local_snapshot
from hf_free.provenance.teacher_record import FILES, PIXEL_FILES
from hf_free.runtime.files import read_bounded, why_unreadable
from hf_free.runtime.git_lfs import is_pointer
from hf_free.runtime.given import from_home
from hf_free.runtime.strict_json import why_no_json
from hf_free.teachers.reference import TeacherReference
from hf_free.teachers.transformers_config import is_transformers

MAX_TEACHER_CONFIG_BYTES = 4 * 2**20
"""Most bytes of a teacher's config.json, half of what a learner's may have, which describes many teachers: the 21,841
classes of ImageNet-22k with names and descriptions take 2 MB, and parsing takes many times as much memory."""

_TOP_LEVEL = ("architecture", "num_classes", "model_args", "label_names", "label_descriptions")


def is_single_file(reference: TeacherReference) -> bool:
    """Whether a reference names a weights file alone."""
    return reference.is_local and from_home(reference.location).is_file()


def weights_name(reference: TeacherReference) -> str:
    """Name of the weights file in a teacher's folder."""
    return Path(reference.location).name if is_single_file(reference) else FILES[1]


def local_files(reference: TeacherReference) -> Snapshot:
    """The files of a local reference, with their hashes.

    Raises:
        HubError: a folder without the two files.
        TeacherError: files that cannot be a teacher's, found before gigabytes are read for their hashes.
    """
    path = from_home(reference.location)
    if not is_single_file(reference):
        _check_before_hashing(path, str(reference))
        return local_snapshot(path, required=FILES, optional=PIXEL_FILES)
    if problem := why_unreadable(path):
        raise HubError(f"{path}: {problem}", action=f"its owner lets others read it: chmod a+r {path}")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Snapshot(path.parent, None, None, False, False, None, {path.name: digest})


def _check_before_hashing(folder: Path, name: str) -> None:
    """Refuse a configuration that is too long, and large weights that are none, by what `stat` and the header say."""
    config, weights = (folder / file for file in FILES)
    for path in (config, *(folder / file for file in PIXEL_FILES)):
        if path.is_file() and path.stat().st_size > MAX_TEACHER_CONFIG_BYTES:
            raise _unreadable(path, name, f"cannot be read: it has more than {MAX_TEACHER_CONFIG_BYTES} bytes")
    if weights.is_file() and weights.stat().st_size > MAX_TEACHER_CONFIG_BYTES:  # a pointer of git-lfs is small
        read_header(weights, name)


def check_no_pointers(paths: Iterable[Path], name: str) -> None:
    """Refuse the pointer files that a clone without git-lfs holds instead of weights.

    Raises:
        TeacherError: with the file's name and how to get the file itself.
    """
    for path in paths:
        if is_pointer(path):
            raise TeacherError(
                f"{name}: {path.name} is a git-lfs pointer of {path.stat().st_size} bytes, not the file itself",
                allowed="the files themselves",
                action=f"run git lfs pull in {path.parent}, or download the repository with hf download",
            )


def read_config(reference: TeacherReference, folder: Path) -> Any:
    """The parsed `config.json`, with the fields that a YAML list gives laid over it; nothing is checked yet.

    Raises:
        TeacherError: a file that is no JSON, or too long; or a size given in a list that the network is not built for.
    """
    config = {} if is_single_file(reference) else _read_json(folder / FILES[0], str(reference))
    given = json.loads(reference.config) if reference.config else {}
    if not given or not isinstance(config, dict):
        return config
    merged = {**config, **{key: value for key, value in given.items() if key in _TOP_LEVEL}}
    _check_given_size(merged, given, str(reference))
    inner = config.get("pretrained_cfg")
    if is_transformers(merged):
        return {**merged, "pretrained_cfg": {**(inner if isinstance(inner, dict) else {}), **given}}
    if inner is not None and not isinstance(inner, dict):
        return merged
    cfg = {**(merged if inner is None else inner), **given}  # timm before 0.9 wrote everything at the top level
    return {**merged, "pretrained_cfg": {key: value for key, value in cfg.items() if key != "pretrained_cfg"}}


def _check_given_size(config: Mapping[str, object], given: Mapping[str, object], name: str) -> None:
    """Refuse pictures of another size than the one that the repository's arguments build the network for.

    Raises:
        TeacherError: they differ.
    """
    arguments, wanted = config.get("model_args"), given.get("input_size")
    built_for = arguments.get("img_size") if isinstance(arguments, dict) and "model_args" not in given else None
    if built_for is None or not isinstance(wanted, list):
        return
    sides = built_for if isinstance(built_for, list) else [built_for, built_for]
    if wanted[1:] != sides:
        raise TeacherError(
            f"{name}: input_size is {wanted}, and the network is built for {' x '.join(map(str, sides))} "
            "(model_args.img_size)",
            allowed="that size; networks of convolutions alone take others",
            action="leave out input_size",
        )


def read_pixel_config(snapshot: Snapshot, name: str) -> object | None:
    """The parsed processor configuration of a transformers model; None where there is no such file.

    Raises:
        TeacherError: a file that is no JSON, or too long.
    """
    for file in PIXEL_FILES:
        if file not in snapshot.sha256:
            continue
        values = _read_json(snapshot.folder / file, name)
        if file == PIXEL_FILES[1]:
            return values
        if isinstance(values, dict) and isinstance(values.get("image_processor"), dict):
            return values["image_processor"]
    return None


def _read_json(path: Path, name: str) -> Any:
    try:
        text = read_bounded(path, max_bytes=MAX_TEACHER_CONFIG_BYTES).decode(
            "utf-8-sig"
        )  # Windows editors write a mark
        return json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        reason = "its values are nested too deeply" if isinstance(error, RecursionError) else why_no_json(error)
        raise _unreadable(path, name, f"cannot be read: {reason[:200]}") from None


def _unreadable(path: Path, name: str, problem: str) -> TeacherError:
    return TeacherError(
        f"{name}: {path.name} {problem}",
        allowed=f"a JSON object of at most {MAX_TEACHER_CONFIG_BYTES} bytes",
        action="upload it again",
    )
