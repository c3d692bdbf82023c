"""A teacher's name as users type it: `[collection:]org/name[@revision][:classes]`, a local folder, or an endpoint.

This is grammar only: a text for several teachers, a YAML list or a collection of the Hub, is opened by
`hf_free.teachers.listing.resolve`. The part before the first colon is the user's own label and makes no difference,
except for two words: `collection:org/slug` is all models of a collection, `endpoint:https://host/path` a classifier
behind an address, which only answers.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from hf_free.errors import TeacherReferenceError
from hf_free.hub.names import (
    ENDPOINT,
    NAME_PART,
    check_address,
    check_repository,
    check_revision,
    id_in_address,
    is_written_as_path,
    name_error,
)
from hf_free.runtime.given import from_home
from hf_free.runtime.text import format_classes

_INSTEAD_OF_A_FILE = (
    "give the folder that holds config.json and model.safetensors; a single .safetensors file goes into a YAML list "
    "with its architecture, see docs/guides/teachers.md; a list of teachers is given as @list.txt or list.yaml"
)

_CLASSES_OF_A_FOLDER = (
    "a folder takes its classes through a YAML list, teachers.yaml, as {path: FOLDER, classes: 0-4}; "
    "see docs/guides/teachers.md"
)

_CLASSES_OF_AN_ENDPOINT = (
    "an endpoint takes its classes through a YAML list, as {endpoint: https://host/path, classes: 0-4}; "
    "see docs/guides/black-boxes.md"
)

_LIST_ENTRY = re.compile(r".+\.ya?ml#[\w.-]+", re.IGNORECASE)

_MAX_CLASSES = 100_000


@dataclass(frozen=True)
class TeacherReference:
    """A frozen reference to one teacher, printed back by `str` as it was given.

    Args:
        location: `org/name`, or a local folder as given; or a `.safetensors` file, whose `config` is then given; or
            an endpoint's address.
        is_local: Whether `location` is a folder or file.
        revision: Branch, tag or commit; None for the default branch.
        classes: Subset of the head's outputs, in the order given.
        collection: The label before the repository, see above.
        text: The text that was parsed, which `str` gives back; None where the reference was put together.
        config: Fields of `config.json` that a YAML list gives, as JSON; None gives none.
        from_collection: Whether it was found in a collection: nobody named it, so it does not end a run if it turns
            out to be no teacher.
        is_endpoint: Whether `location` is an address that answers.
    """

    location: str
    is_local: bool
    revision: str | None = None
    classes: tuple[int, ...] | None = None
    collection: str | None = None
    text: str | None = field(default=None, compare=False, repr=False)
    config: str | None = None
    from_collection: bool = field(default=False, compare=False, repr=False)
    is_endpoint: bool = False

    @property
    def is_on_hub(self) -> bool:
        """Whether it has files on the Hub."""
        return not (self.is_local or self.is_endpoint)

    @classmethod
    def parse(cls, text: str) -> TeacherReference:
        """Read a reference.

        An existing local folder is taken whole, even where its name holds `:` or `@`.

        Raises:
            TeacherReferenceError: the text is neither a folder nor in the grammar.
        """
        if text != text.strip() or not text:
            raise name_error(text, "is empty" if not text.strip() else "begins or ends with a space")
        if text.startswith(ENDPOINT):
            return cls(parse_address(text.removeprefix(ENDPOINT), text), is_local=False, text=text, is_endpoint=True)
        path = existing_path(text)
        if path is not None:
            if not path.is_dir():
                raise _no_folder(text, path)
            return cls(text, is_local=True, text=text)
        if is_list_entry(text):
            raise name_error(
                text, "is an entry of a YAML list", action="open it with hf_free.teachers.listing.resolve"
            )
        if (named := id_in_address(text)) is not None:
            answers = f"; a classifier that answers there is endpoint:{text}" if text.startswith("http") else ""
            raise name_error(text, "is the address of a page, not an id", action=f"write {named}{answers}")
        if is_written_as_path(text):
            head = text.rpartition(":")[0]
            if head and existing_path(head) is not None:
                raise name_error(text, f"names classes of the local folder {head!r}", action=_CLASSES_OF_A_FOLDER)
            raise name_error(text, "is a local folder that does not exist", action="check the path")
        repository, revision, classes, collection = _split(text)
        if collection is not None and "/" not in repository and existing_path(collection) is not None:
            raise name_error(text, f"names classes of the local folder {collection!r}", action=_CLASSES_OF_A_FOLDER)
        check_repository(text, repository)
        if revision is not None:
            check_revision(revision, text)
        if collection is not None and not NAME_PART.fullmatch(collection):
            raise name_error(text, f"has the malformed collection {collection!r}")
        indices = None if classes is None else parse_classes(classes, text)
        return cls(repository, False, revision, indices, collection, text)

    def __str__(self) -> str:
        if self.text is not None:
            return self.text
        collection = f"{self.collection}:" if self.collection else ""
        revision = f"@{self.revision}" if self.revision else ""
        classes = f":{format_classes(self.classes)}" if self.classes is not None else ""
        return f"{collection}{self.location}{revision}{classes}"


def _no_folder(text: str, path: Path) -> TeacherReferenceError:
    """The error for a file in the place of a teacher's folder."""
    if path.suffix.lower() in (".yaml", ".yml"):
        action = f"name one of its entries, {text}#NAME or {text}#1; a list names no other list"
        return name_error(text, "is a YAML list, not a teacher", action=action)
    return name_error(text, "is a file", action=_INSTEAD_OF_A_FILE)


def parse_address(url: str, text: str | None = None) -> str:
    """Read an endpoint's address.

    Raises:
        TeacherReferenceError: no http or https address, or one with a password, a query or a fragment.
    """
    problem = check_address(url)
    if problem is not None:
        action = "tokens go into --endpoint-token" if "holds" in problem else _CLASSES_OF_AN_ENDPOINT
        raise name_error(text or url, problem, allowed="endpoint:https://host/path", action=action)
    return url


def is_list_entry(text: str) -> bool:
    """Whether a text has the form `teachers.yaml#name`, an entry of a YAML list."""
    return _LIST_ENTRY.fullmatch(text) is not None


def existing_path(text: str) -> Path | None:
    """The file or folder that a text names, or None, also for a text that cannot be a path at all."""
    try:
        path = from_home(text)
        return path if path.exists() else None
    except (OSError, RuntimeError, ValueError):  # a name too long, the home of nobody, a zero byte
        return None


def parse_classes(text: str, reference: str | None = None) -> tuple[int, ...]:
    """Read `3,7,12`, `0-4` (both ends included) or a mix as class indices in the order given.

    Raises:
        TeacherReferenceError: not of that form, a range that runs backwards, or an index twice.
    """
    reference = text if reference is None else reference
    classes: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", part)
        if match is None:
            action = "write the classes so, or leave them and the colon out"
            rule = "such as 3,7,12 or 0-4 or 0-4,9"
            raise name_error(reference, f"has the malformed classes {text!r}", allowed=rule, action=action)
        first = int(match.group(1))
        last = first if match.group(2) is None else int(match.group(2))
        if last < first:
            given = f"has the range {part!r}, which runs backwards"
            raise name_error(reference, given, allowed="first-last, as in 0-4", action=f"write {last}-{first}")
        if last >= _MAX_CLASSES:
            raise name_error(reference, f"names the class {last}", allowed=f"0 to {_MAX_CLASSES - 1}")
        classes.extend(range(first, last + 1))
    twice = sorted(index for index, count in Counter(classes).items() if count > 1)
    if twice:
        raise name_error(reference, f"names class {twice[0]} twice", action="name each class once")
    return tuple(classes)


def _split(text: str) -> tuple[str, str | None, str | None, str | None]:
    """Cut a text into repository, revision, classes and collection; the parts are not checked yet."""
    collection, repository = None, text
    head, colon, rest = text.partition(":")
    if colon and "/" not in head and "@" not in head:  # a ':' before the first '/' ends a collection
        collection, repository = head, rest
    repository, at, tail = repository.partition("@")
    if at and ":" in repository:
        raise name_error(text, "has the classes before the revision", allowed="org/name@revision:classes")
    name, colon, classes = (tail if at else repository).partition(":")
    return (repository if at else name), (name if at else None), (classes if colon else None), collection
