"""Lists of teachers: a YAML file for what the grammar has no room for, and collections of the Hub.

    teachers:
      - org/name@v2:0-4            # any text of the grammar
      - collection:org/slug        # all models of a collection of the Hub
      - ./folder                   # relative to this file
      - id: org/name               # or a mapping
        revision: v2
        classes: [3, 7, 12]
      - name: lite0
        path: lite0.safetensors    # relative to this file; a folder, or a weights file with its architecture
        architecture: tf_efficientnet_lite0
        num_classes: 1000
        input_size: [3, 224, 224]

A mapping's other keys are fields of `config.json` and win over the repository's own. Such an entry is named
`teachers.yaml#lite0` everywhere; without a `name` it goes by its place, `teachers.yaml#2`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from hf_free.errors import HubError, TeacherReferenceError
from hf_free.hub.reference import TeacherReference, check_repo_id, check_revision, existing_path, parse_classes

COLLECTION = "collection"
"""Label that makes `collection:org/slug` a collection of the Hub rather than a repository."""

CONFIG_KEYS = (
    *("architecture", "num_classes", "model_args", "input_size", "fixed_input_size", "mean", "std"),
    *("interpolation", "label_names", "label_descriptions"),
)
"""Fields of `config.json` that an entry may give; each is checked as if the repository had said it."""

T = TypeVar("T")


class CollectionMember(str):
    """A model of a collection: nobody has named it, so one that is no teacher ends no run."""


_OWN_KEYS = ("name", "id", "path", "revision", "classes")
_MAX_BYTES = 16 * 2**20


def expand(sources: Iterable[T], *, token: str | None = None) -> list[T | str]:
    """Replace each YAML list and each collection by the teachers it holds, in order; all else stays.

    Args:
        sources: Texts of references, names of YAML files, `collection:org/slug[:classes]`; or references themselves.
        token: Hub token, for private collections.

    Raises:
        TeacherReferenceError: a list that cannot be read, or an entry that names no teacher.
        HubError: a collection that cannot be had, or that holds no model.
    """
    expanded: list[T | str] = []
    for source in sources:
        if isinstance(source, str) and source.startswith(f"{COLLECTION}:"):
            expanded += _collection(TeacherReference.parse(source), token)
        elif isinstance(source, str) and is_teacher_list(source):
            expanded += expand(read_teacher_list(source), token=token)  # a list may name collections
        else:
            expanded.append(source)
    return expanded


def is_teacher_list(text: str) -> bool:
    """Whether a text names an existing YAML file."""
    path = existing_path(text) if text.lower().endswith((".yaml", ".yml")) else None
    return path is not None and path.is_file()


def read_teacher_list(path: str | Path) -> list[str]:
    """The references of a YAML list, checked; mappings become `path#name`.

    Raises:
        TeacherReferenceError: see `expand`.
    """
    texts = []
    for name, entry in _entries(path).items():
        text = _beside(path, entry) if isinstance(entry, str) else f"{path}#{name}"
        _reference(path, name, entry)
        texts.append(text)
    return texts


def teacher_of_list(text: str) -> TeacherReference:
    """The reference of `teachers.yaml#name`.

    Raises:
        TeacherReferenceError: see `expand`; or no entry of that name.
    """
    path, _, name = text.rpartition("#")
    entries = _entries(path)
    if name not in entries:
        raise TeacherReferenceError(
            f"{path} has no entry {name!r}", allowed=", ".join(list(entries)[:20]), action="check the name"
        )
    return _reference(path, name, entries[name])


def _entries(path: str | Path) -> dict[str, Any]:
    """The entries by name, or by place (from 1) where they have none."""
    rule = "a YAML file with a list of teachers, by itself or under `teachers:`"
    file = existing_path(str(path))
    if file is None:
        raise TeacherReferenceError(f"cannot read {path}: no such file", allowed=rule)
    try:
        size = file.stat().st_size
        values = yaml.safe_load(file.read_text(encoding="utf-8")) if size <= _MAX_BYTES else None
    except OSError as error:
        raise TeacherReferenceError(f"cannot read {path}: {error.strerror}", allowed=rule) from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise TeacherReferenceError(f"{path} is not valid YAML: {_where(error)}", allowed=rule) from None
    if isinstance(values, Mapping) and list(values) == ["teachers"]:
        values = values["teachers"]
    if not isinstance(values, list) or not values:
        raise TeacherReferenceError(f"{path} holds no list of teachers", allowed=rule)
    entries: dict[str, Any] = {}
    for place, entry in enumerate(values, start=1):
        name = entry.get("name", place) if isinstance(entry, Mapping) else place
        if not re.fullmatch(r"[\w.-]{1,80}", str(name)) or str(name) in entries:
            raise _refuse(path, place, f"has the name {name!r}", "a name of its own: letters, digits, . _ -")
        entries[str(name)] = entry
    return entries


def _reference(path: str | Path, name: str, entry: Any) -> TeacherReference:
    """One entry as a reference.

    Raises:
        TeacherReferenceError: with the entry's name and what is wrong.
    """
    if isinstance(entry, str):
        return TeacherReference.parse(_beside(path, entry))
    if not isinstance(entry, Mapping):
        raise _refuse(path, name, f"is a {type(entry).__name__}", "a text, or a mapping")
    unknown = [str(key) for key in entry if key not in (*_OWN_KEYS, *CONFIG_KEYS)]
    if unknown:
        raise _refuse(path, name, f"has the unknown key {unknown[0]!r}", ", ".join((*_OWN_KEYS, *CONFIG_KEYS)))
    given = {key: entry[key] for key in CONFIG_KEYS if entry.get(key) is not None}
    text, classes = f"{path}#{name}", _classes(path, name, entry.get("classes"))
    try:
        config = json.dumps(given) if given else None
    except (TypeError, ValueError) as error:  # a date, for instance
        raise _refuse(
            path, name, f"holds something that is no plain value ({error})", "numbers, texts, lists"
        ) from None
    if ("id" in entry) == ("path" in entry):
        raise _refuse(path, name, "has not exactly one of id and path", "id: org/name, or path: a folder or file")
    if "id" in entry:
        repository, revision = str(entry["id"]), entry.get("revision")
        try:
            check_repo_id(repository)
            revision = None if revision is None else check_revision(str(revision))
        except TeacherReferenceError as error:
            raise _refuse(path, name, f"is wrong: {error.given}", error.allowed) from None
        return TeacherReference(repository, False, revision, classes, None, text, config)
    return TeacherReference(str(_local(path, name, entry, given)), True, None, classes, None, text, config)


def _where(error: Exception) -> str:
    """A YAML error in one line, with line and column; it knows the text, not the file."""
    return " ".join(str(error).replace('in "<unicode string>", ', "at ").split())


def _beside(path: str | Path, text: str) -> str:
    """An entry's text; a folder that begins with a dot begins at the list's own folder, as `path` does."""
    if not text.startswith("."):
        return text
    joined = os.path.normpath(os.path.join(os.path.dirname(path), text))
    return joined if joined.startswith((".", "/", "~")) else f"./{joined}"


def _local(path: str | Path, name: str, entry: Mapping[str, Any], given: Mapping[str, Any]) -> Path:
    """The folder or file of an entry; relative paths begin at the list's own folder."""
    target = Path(path).expanduser().parent / Path(str(entry["path"])).expanduser()
    if "revision" in entry:
        raise _refuse(path, name, "has a revision beside a path", "a revision beside an id")
    if target.is_file():
        if target.suffix != ".safetensors":
            raise _refuse(path, name, f"names the file {target}", "a .safetensors file; pickles can run code")
        missing = [key for key in ("architecture", "num_classes") if key not in given]
        if missing:
            raise _refuse(path, name, f"names a weights file without its {missing[0]}", "architecture, num_classes")
    elif not target.is_dir():
        raise _refuse(path, name, f"names {target}, which does not exist", "a folder or a .safetensors file")
    return target


def _classes(path: str | Path, name: str, value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    try:
        return parse_classes(text)
    except TeacherReferenceError as error:
        rule = "classes: a list of different whole numbers, or a text such as 0-4 or 3,7,12"
        raise _refuse(path, name, f"is wrong: {error.given}", rule) from None


def _collection(reference: TeacherReference, token: str | None) -> list[str]:
    """The models of a collection, each with the classes that were asked for."""
    from hf_free.hub.client import models_of_collection

    if reference.revision is not None:
        raise TeacherReferenceError(
            f"{str(reference)!r} has a revision",
            allowed="collection:org/slug[:classes]; a collection has no revisions",
            action="name the repositories one by one to pin them",
        )
    models = models_of_collection(reference.location, token=token)
    if not models:
        raise HubError(f"the collection {reference.location} holds no model", action="choose another collection")
    classes = str(reference).removeprefix(f"{COLLECTION}:{reference.location}")
    return [CollectionMember(f"{model}{classes}") for model in models]


def _refuse(path: str | Path, name: object, problem: str, allowed: str) -> TeacherReferenceError:
    return TeacherReferenceError(f"{path}: entry {name} {problem}", allowed=allowed, action="mend the list")
