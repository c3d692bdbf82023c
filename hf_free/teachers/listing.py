"""Lists of teachers: YAML files, for what the grammar cannot express, and collections of the Hub.

    teachers:
      - org/name@v2:0-4            # any text of the grammar
      - collection:org/slug        # all models of a collection of the Hub
      - ./folder                   # relative to this file
      - endpoint:https://host/path # a classifier that only answers
      - id: org/name               # or a mapping
        revision: v2
        classes: [3, 7, 12]
      - name: lite0
        path: lite0.safetensors    # relative to this file; a folder, or a weights file with its architecture
        architecture: tf_efficientnet_lite0
        num_classes: 1000
        input_size: [3, 224, 224]

    # a black box about which more is known than its address
      - name: birds
        endpoint: https://host/birds
        label_names: [sparrow, swift]   # all of its labels, where answers hold the most likely ones only
        answers: percentages            # or probabilities, logits; inferred where it is clear
        token_env: BIRDS_TOKEN          # environment variable with its token

A mapping's other keys are fields of `config.json` and win over the repository's own. Such an entry is named
`teachers.yaml#lite0` everywhere; without a `name` it goes by its place, `teachers.yaml#2`.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from hf_free.config.yaml_reading import as_texts, is_null, meant, read_written
from hf_free.errors import ConfigError, HubError, TeacherReferenceError
from hf_free.hub.names import check_repo_id, check_revision
from hf_free.runtime.files import read_bounded
from hf_free.runtime.given import from_home
from hf_free.teachers.reference import TeacherReference, existing_path, is_list_entry, parse_address, parse_classes

logger = logging.getLogger(__name__)

COLLECTION = "collection"
"""Label that makes `collection:org/slug` a collection of the Hub rather than a repository."""

_TEXT_KEYS = ("architecture", "interpolation", "label_names", "label_descriptions")
_NUMBER_KEYS = ("num_classes", "input_size", "fixed_input_size", "mean", "std")
CONFIG_KEYS = (*_TEXT_KEYS, *_NUMBER_KEYS, "model_args")
"""Fields of `config.json` that an entry may give; each is checked as if the repository had said it. Texts stay as
they were written: a class may be called `no`, `null` or `007`."""

_OWN_KEYS = ("name", "id", "path", "endpoint", "revision", "classes")
_ENDPOINT_KEYS = ("answers", "pictures_per_request", "token_env")
_OF_ENDPOINTS = ("name", "endpoint", "classes", "label_names", "num_classes", "input_size", "mean", "std")
_MAX_BYTES = 16 * 2**20


def resolve(texts: Iterable[str], *, token: str | None = None) -> list[TeacherReference]:
    """The teachers that texts stand for, in order: the one door from what a user writes to references.

    Args:
        texts: References, names of YAML lists, entries of them (`teachers.yaml#name`), and
            `collection:org/slug[:classes]`.
        token: Hub token, for private collections.

    Raises:
        TeacherReferenceError: a text or an entry that names no teacher, or a list that cannot be read.
        HubError: a collection that cannot be fetched, or that holds no model.
    """
    door = Resolver(token=token)
    return [reference for text in texts for reference in door.references(text)]


def resolve_without_hub(texts: Iterable[str]) -> list[TeacherReference]:
    """As `resolve`, but each collection stays one reference, so that no Hub is asked."""
    door = Resolver(asks_hub=False)
    return [reference for text in texts for reference in door.references(text)]


def check_teachers(texts: Sequence[str], *, least: int = 2, most_classes: int = 20) -> None:
    """Refuse teachers that cannot make two tasks, before anything is fetched. A teacher (or a subset of its classes)
    counts as one task per `most_classes` classes, but at least as one. Its number of classes is known here only where
    a subset is named; a collection may hold any number of teachers.

    Args:
        texts: What `resolve` reads.
        least: Tasks that are needed; one is enough for a learner that has others already.
        most_classes: Classes of a task.

    Raises:
        ConfigError: no teacher, or one only.
        TeacherReferenceError: a text that names no teacher.
    """
    hint = "hf-free train --models ID ID ...; hf-free search finds some, hf-free demo needs none"
    if not texts:
        raise ConfigError("no models given", allowed="two or more teachers", action=hint)
    references = resolve_without_hub(texts)
    different = {replace(reference, collection=None) for reference in references}
    if len(different) >= least or any(reference.collection == COLLECTION for reference in references):
        return
    classes = references[0].classes
    if classes is not None and len(classes) < least * most_classes:
        raise ConfigError(
            f"fewer than two tasks: the only teacher is {references[0]}",
            allowed=f"two or more different teachers, or one of {least * most_classes} classes; "
            "learning to learn takes more than one task",
            action=hint,
        )


class Resolver:
    """`resolve`, one text after the other; each YAML file is read once.

    Args:
        token: Hub token, for private collections.
        asks_hub: Whether collections are opened; otherwise each stays one reference.
    """

    def __init__(self, *, token: str | None = None, asks_hub: bool = True) -> None:
        self._token, self._asks_hub = token, asks_hub
        self._files: dict[str, dict[str, object]] = {}

    def references(self, text: str) -> list[TeacherReference]:
        """The teachers that one text stands for; see `resolve` for what it may be and what is raised."""
        if is_list_entry(text) and existing_path(text) is None:
            return [self._entry(text)]
        if is_teacher_list(text):  # a list may name collections, but no other list
            references = [_reference(text, name, entry) for name, entry in self._entries(text).items()]
        else:
            references = [TeacherReference.parse(text)]
        return [member for reference in references for member in self._members(reference)]

    def _members(self, reference: TeacherReference) -> list[TeacherReference]:
        is_collection = reference.collection == COLLECTION and self._asks_hub
        return _collection(reference, self._token) if is_collection else [reference]

    def _entry(self, text: str) -> TeacherReference:
        path, _, name = text.rpartition("#")
        entries = self._entries(path)
        if name not in entries:
            raise TeacherReferenceError(
                f"{path} has no entry {name!r}", allowed=", ".join(list(entries)[:20]), action="check the name"
            )
        return _reference(path, name, entries[name])

    def _entries(self, path: str) -> dict[str, object]:
        if path not in self._files:
            self._files[path] = _read_entries(path)
        return self._files[path]


def is_teacher_list(text: str) -> bool:
    """Whether a text names an existing YAML file."""
    path = existing_path(text) if text.lower().endswith((".yaml", ".yml")) else None
    return path is not None and path.is_file()


def _read_entries(path: str | Path) -> dict[str, object]:
    """The entries by name, or by place (from 1) where they have none."""
    rule = "a YAML file with a list of teachers, by itself or under `teachers:`"
    file = existing_path(str(path))
    if file is None:
        raise TeacherReferenceError(f"cannot read {path}: no such file", allowed=rule)
    try:
        values = read_written(read_bounded(file, max_bytes=_MAX_BYTES).decode("utf-8-sig"))
    except OSError as error:
        raise TeacherReferenceError(f"cannot read {path}: {error.strerror}", allowed=rule) from None
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise TeacherReferenceError(f"{path} is not valid YAML: {_where(error)}", allowed=rule) from None
    except ValueError as error:  # of read_bounded
        raise TeacherReferenceError(f"cannot read {path}: {error}", allowed=rule) from None
    if isinstance(values, Mapping) and list(values) == ["teachers"]:
        values = values["teachers"]
    if isinstance(values, Mapping) and "teachers" in values:
        others = ", ".join(str(key)[:40] for key in list(values)[:4] if key != "teachers")
        raise TeacherReferenceError(
            f"{path} holds other keys beside `teachers`: {others}" if others else f"{path} holds no list of teachers",
            allowed=rule,
            action="leave them out; a run's settings go into a file for --config" if others else "",
        )
    if not isinstance(values, list) or not values:
        raise TeacherReferenceError(f"{path} holds no list of teachers", allowed=rule)
    entries: dict[str, object] = {}
    for place, entry in enumerate(values, start=1):
        name = str(entry.get("name") or place) if isinstance(entry, Mapping) else str(place)
        if not re.fullmatch(r"[\w.-]{1,80}", name) or name in entries:
            raise _refuse(path, place, f"has the name {name!r}", "a name of its own: letters, digits, . _ -")
        entries[name] = entry
    return entries


def _reference(path: str | Path, name: str, entry: object) -> TeacherReference:
    """One entry as a reference.

    Raises:
        TeacherReferenceError: with the entry's name and what is wrong.
    """
    if isinstance(entry, str):
        return TeacherReference.parse(_beside(path, str(entry)))
    if not isinstance(entry, Mapping):
        raise _refuse(path, name, f"is a {type(entry).__name__}", "a text, or a mapping")
    is_endpoint = "endpoint" in entry
    known = (*_OF_ENDPOINTS, *_ENDPOINT_KEYS) if is_endpoint else (*_OWN_KEYS, *CONFIG_KEYS)
    unknown = [str(key) for key in entry if key not in known]
    if unknown:
        raise _refuse(path, name, f"has the unknown key {unknown[0]!r}", ", ".join(known))
    given = {str(key): value for key, value in entry.items() if not is_null(value)}  # `revision:` gives none
    text, classes = f"{path}#{name}", _classes(path, name, given.get("classes"))
    config = _config(path, name, given)
    if is_endpoint:
        try:
            address = parse_address(str(given.get("endpoint", "")))
        except TeacherReferenceError as error:
            raise _refuse(path, name, f"is wrong: {error.given}", error.allowed) from None
        return TeacherReference(address, False, None, classes, None, text, config, is_endpoint=True)
    if ("id" in given) == ("path" in given):
        rule = "id: org/name, path: a folder or file, or endpoint: https://host/path"
        raise _refuse(path, name, "has not exactly one of id, path and endpoint", rule)
    if "id" in given:
        repository, revision = str(given["id"]), given.get("revision")
        try:
            check_repo_id(repository)
            revision = None if revision is None else check_revision(str(revision))
        except TeacherReferenceError as error:
            raise _refuse(path, name, f"is wrong: {error.given}", error.allowed) from None
        return TeacherReference(repository, False, revision, classes, None, text, config)
    return TeacherReference(str(_local(path, name, given)), True, None, classes, None, text, config)


def _config(path: str | Path, name: str, given: Mapping[str, object]) -> str | None:
    """The fields of `config.json` that an entry gives, as JSON; None for none."""
    fields = {
        key: as_texts(given[key]) if key in (*_TEXT_KEYS, "answers", "token_env") else meant(given[key])
        for key in (*CONFIG_KEYS, *_ENDPOINT_KEYS)
        if key in given
    }
    for key in (*_NUMBER_KEYS, "pictures_per_request"):
        numbers = fields.get(key)
        for number in numbers if isinstance(numbers, list) else [numbers]:
            if number is not None and (isinstance(number, bool) or not isinstance(number, int | float)):
                raise _refuse(path, name, f"has {key} with {number!r}, which is not a number", "numbers")
    try:
        return json.dumps(fields) if fields else None
    except (TypeError, ValueError) as error:  # what an explicit tag made, a date for instance
        rule = "numbers, texts, lists"
        raise _refuse(path, name, f"holds something other than a plain value ({error})", rule) from None


def _where(error: Exception) -> str:
    """A YAML error in one line, with line and column; it knows the text, not the file."""
    return " ".join(str(error).replace('in "<unicode string>", ', "at ").split())


def _beside(path: str | Path, text: str) -> str:
    """An entry's text; a folder that begins with a dot begins at the list's own folder, as `path` does."""
    if not text.startswith("."):
        return text
    joined = os.path.normpath(os.path.join(os.path.dirname(path), text))
    return joined if joined.startswith((".", "/", "~")) else f"./{joined}"


def _local(path: str | Path, name: str, given: Mapping[str, object]) -> Path:
    """The folder or file of an entry; relative paths begin at the list's own folder."""
    target = from_home(path).parent / from_home(str(given["path"]))
    if "revision" in given:
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


def _classes(path: str | Path, name: str, value: object) -> tuple[int, ...] | None:
    if value is None:
        return None
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    try:
        return parse_classes(text)
    except TeacherReferenceError as error:
        rule = "classes: a list of different whole numbers, or a text such as 0-4 or 3,7,12"
        raise _refuse(path, name, f"is wrong: {error.given}", rule) from None


def _collection(reference: TeacherReference, token: str | None) -> list[TeacherReference]:
    """The models of a collection, each with the classes that were asked for."""
    from hf_free.hub.search import models_of_collection

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
    members = []
    for model in models:
        try:
            members.append(replace(TeacherReference.parse(f"{model}{classes}"), from_collection=True))
        except TeacherReferenceError as error:  # old ids have no organization, and nobody has named them here
            logger.warning("a model of %s is passed over: %s", reference.location, error.given)
    return members


def _refuse(path: str | Path, name: object, problem: str, allowed: str) -> TeacherReferenceError:
    return TeacherReferenceError(f"{path}: entry {name} {problem}", allowed=allowed, action="correct the list")
