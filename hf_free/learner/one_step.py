"""Saving over a saved learner in one step: a process killed at any moment leaves the old one or the new one, whole.

New files are written into a folder beside the old ones. Then the file that names the others by their SHA-256 is
replaced, which is the step, and the others follow. Until they have, a reader finds them by that SHA-256 where they
were written (`find_file`, `find_teachers`); the next save moves them and removes what is left over
(`finish_saving`). This holds for machines that lose power too, as far as their file system keeps the order of renames:
new files are on the disk before the step.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from hf_free.learner.format import (
    CLASSIFIER_CONFIG,
    CLASSIFIER_WEIGHTS,
    CONFIG,
    MAX_CONFIG_BYTES,
    STAGING,
    SUPPORT,
    WEIGHT_FILES,
)
from hf_free.learner.pooled_files import FOLDER, teacher_files
from hf_free.runtime.files import give_usual_rights, made_folder, sha256_of, sync_all, why_unreadable
from hf_free.runtime.owners import is_abandoned, owned_tag
from hf_free.runtime.storage import storage_explained
from hf_free.runtime.strict_json import read_strict_json

FINGERPRINTS = "hf_free_files"
"""Key under which config.json and classifier.json name the SHA-256 of each file that belongs to them. It stands beside
the `hf_free` block, where older versions ignore it."""


@contextmanager
def replaced_in_one_step(folder: Path, order: Sequence[str], *, needed: int | None = None) -> Iterator[Path]:
    """A folder to write new files into; at the end of the block they take their places in `folder`.

    Args:
        folder: Made where it is missing; its other files stay as they are.
        order: Names of the files. The first one has to name all others under `FINGERPRINTS`, or to name one that does;
            the folder of a pooled learner's teachers may come later, whose files config.json names in its record.
        needed: Bytes that they take, about, for the message where there is no space.

    Raises:
        StorageError: they cannot be written there.
    """
    kept = "a whole learner stays there, the one before or this one" if (folder / CONFIG).is_file() else ""
    first = folder / order[0] if order else folder
    with storage_explained(first, needed=needed, safe=kept), made_folder(folder):
        finish_saving(folder)
        staging = Path(tempfile.mkdtemp(dir=folder, prefix=f"{STAGING}{owned_tag()}-"))
        is_needed = False
        try:
            yield staging
            give_usual_rights(staging)
            sync_all(staging)
            for name in order:
                _move(staging, folder, name)
                is_needed = True  # from the first replacement on, a reader may look for the other files here
            _remove_nameless_teachers(folder, staging)
            is_needed = False
        finally:
            if not is_needed:
                shutil.rmtree(staging, ignore_errors=True)
            else:  # nobody's any more: the next save finishes it
                with suppress(OSError):  # once this process has ended, it is nobody's all the same
                    staging.rename(folder / f"{STAGING}{secrets.token_hex(4)}")


def fingerprints_of(content: object, files: Sequence[str] = WEIGHT_FILES) -> dict[str, str] | None:
    """The SHA-256 of each file that a parsed config.json or classifier.json names; None where it names none.

    Args:
        content: The file's.
        files: What it has to name.

    Raises:
        ValueError: anything but a text for each of these.
    """
    named = content.get(FINGERPRINTS) if isinstance(content, dict) else None
    if named is None:
        return None
    good = isinstance(named, dict) and named.keys() == set(files)
    if not good or not all(isinstance(value, str) for value in named.values()):
        raise ValueError(f"{FINGERPRINTS} is not a SHA-256 for each of {', '.join(files)}")
    return named


def find_file(folder: Path, name: str, wanted: str | None) -> tuple[Path, bool]:
    """A file of a learner, in its place or where an interrupted save has left it.

    Args:
        folder: The learner's.
        name: The file's.
        wanted: Its SHA-256; None takes the one in its place.

    Returns:
        The path, and whether it is the file that is wanted; one that this user may not read is not known to be.
    """
    if wanted is None:
        return folder / name, True
    for path in (folder / name, *_staged(folder, name)):
        if _is_file_of(path, wanted):
            return path, True
    return folder / name, False


def _may_be_ours(path: Path) -> bool:
    """Whether a file can be one of safetensors, by the length of the header that it begins with, or a configuration,
    by its size: zeros, for one, are refused without reading gigabytes of them for their hash.
    """
    if path.suffix == ".json":
        return path.stat().st_size <= MAX_CONFIG_BYTES
    if path.suffix != ".safetensors":
        return True
    with path.open("rb") as file:
        start = file.read(8)
    return len(start) == 8 and 0 < int.from_bytes(start, "little") <= path.stat().st_size - 8


def find_teachers(folder: Path, named: Mapping[str, str]) -> Path | None:
    """The folder whose `teachers/` holds the files of a pooled learner's teachers: the learner's own, or the one where
    an interrupted save has left them; None where neither has them all.

    Args:
        folder: The learner's.
        named: The SHA-256 of each, see `hf_free.learner.pooled_files.named_teacher_files`.
    """
    for place in (folder, *(path.parent for path in _staged(folder, FOLDER))):
        if all(_is_file_of(place / name, wanted) for name, wanted in named.items()):
            return place
    return None


def is_interrupted(folder: Path) -> bool:
    """Whether a save may have left files behind, or is at work."""
    return any(folder.glob(f"{STAGING}*"))


def _is_file_of(path: Path, wanted: str) -> bool:
    return path.is_file() and why_unreadable(path) is None and _may_be_ours(path) and sha256_of(path) == wanted


def _move(source: Path, target: Path, name: str) -> None:
    """Put a file or the teachers' folder into its place; a folder that is in the place goes first."""
    if (target / name).is_dir() and not (target / name).is_symlink():
        (target / name).rename(source / f"old-{name}")
    os.replace(source / name, target / name)


def _remove_nameless_teachers(folder: Path, staging: Path) -> None:
    """Remove the files of an earlier learner's teachers, which nothing names any more.

    Args:
        folder: The learner's.
        staging: Removed by the caller or, where that is killed, by the next save.
    """
    if (folder / FOLDER).is_dir() and not teacher_files(folder / CONFIG):
        (folder / FOLDER).rename(staging / f"nameless-{FOLDER}")


def find_config(folder: Path, weights: Mapping[str, str] | None) -> Path:
    """The config.json that names these weights, as `find_file`; that in its place where none does."""
    for path in (folder / CONFIG, *_staged(folder, CONFIG)):
        if weights and _named_in(path) == weights:  # else a file that was cut short, which names none, would do
            return path
    return folder / CONFIG


def finish_saving(folder: Path) -> None:
    """Put the files that an interrupted save has left behind into their places, and remove those that nobody needs.

    What a living process is about to save there is left to it.
    """
    left = sorted(path for path in folder.glob(f"{STAGING}*") if is_abandoned(path))
    if not left:
        return
    of_classifier = _named_in(folder / CLASSIFIER_CONFIG, (*WEIGHT_FILES, CLASSIFIER_WEIGHTS))
    support = _support_named_in(folder / CLASSIFIER_CONFIG)
    config = find_config(folder, learners_part(of_classifier))
    if config != folder / CONFIG:
        os.replace(config, folder / CONFIG)
    for name, wanted in {**of_classifier, **support, **_named_in(folder / CONFIG)}.items():
        path, is_wanted = find_file(folder, name, wanted)
        if is_wanted and path != folder / name:
            os.replace(path, folder / name)
    place = find_teachers(folder, teacher_files(folder / CONFIG))
    if place is not None and place != folder:
        _move(place, folder, FOLDER)
    _remove_nameless_teachers(folder, left[0])
    for staging in left:
        shutil.rmtree(staging, ignore_errors=True)


def learners_part(fingerprints: Mapping[str, str]) -> dict[str, str]:
    """Those of the learner's own weights."""
    return {name: value for name, value in fingerprints.items() if name in WEIGHT_FILES}


def _staged(folder: Path, name: str) -> list[Path]:
    return sorted(folder.glob(f"{STAGING}*/{name}"))


def _named_in(path: Path, files: Sequence[str] = WEIGHT_FILES) -> dict[str, str]:
    """The files that a config.json or classifier.json names; none where it cannot be read."""
    try:
        return fingerprints_of(read_strict_json(path, max_bytes=MAX_CONFIG_BYTES), files) or {}
    except (OSError, ValueError):
        return {}


def _support_named_in(path: Path) -> dict[str, str]:
    """The SHA-256 of the support that a classifier.json names, under a key that older versions ignore."""
    try:
        content = read_strict_json(path, max_bytes=MAX_CONFIG_BYTES)
    except (OSError, ValueError):
        return {}
    named = content.get("support") if isinstance(content, dict) else None
    sha256 = named.get("sha256") if isinstance(named, dict) else None
    return {SUPPORT: sha256} if isinstance(sha256, str) else {}
