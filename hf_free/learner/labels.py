"""Labels of support pictures: any values in, plain classes and indices out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from hf_free.errors import LearnerError
from hf_free.runtime.given import short_form

Label = str | int

LONGEST_LABEL = 10_000
"""Letters of a label at most; it is written into files, tables and cards."""


def plain_labels(labels: Any, count: int) -> list[Label]:
    """Labels of any kind as plain str, int or bool.

    Args:
        labels: str, int or bool labels, numpy's and torch's numbers among them, as a list, tensor, array, or a pandas
            series or categorical.
        count: Number of support pictures.

    Raises:
        LearnerError: a wrong number of labels, or labels of another type.
    """
    if isinstance(labels, str | bytes):
        raise LearnerError(f"the labels are one text, {labels[:50]!r}", allowed="one label per picture, as a list")
    if isinstance(labels, Mapping | Set) or not (hasattr(labels, "tolist") or isinstance(labels, Iterable)):
        raise LearnerError(
            f"the labels are of type {type(labels).__name__}",
            allowed="one label per picture, as a list in the order of the pictures",
        )
    given = labels.tolist() if hasattr(labels, "tolist") else list(labels)
    if not isinstance(given, list) or len(given) != count:
        number = len(given) if isinstance(given, list) else 1
        raise LearnerError(f"{count} support pictures and {number} labels", allowed="one label per picture")
    return [plain_label(value) for value in given]


def plain_label(value: object) -> Label:
    """A label as a plain str, int or bool; numpy's numbers and texts and tensors of one number give theirs.

    Raises:
        LearnerError: another type, a missing label, or several numbers.
    """
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, str | int):
        check_can_be_saved(value)
        return str(value) if isinstance(value, str) else value if isinstance(value, bool) else int(value)
    if value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value):
        raise LearnerError("a picture has no label", allowed="one label per picture", action="leave that picture out")
    raise LearnerError(
        f"label {short_form(value)} of type {type(value).__name__}",
        allowed="str, int or bool labels, one per picture",
        action="convert them, e.g. [str(label) for label in labels]",
    )


def check_can_be_saved(label: Label) -> None:
    """Refuse a label that no file could keep: a classifier with it could be saved and never opened again.

    Raises:
        LearnerError: a number beyond 64 bits, a text that is no Unicode, or one that is far too long.
    """
    problem, action = "", "give shorter names, and keep the others beside"
    if isinstance(label, str):
        problem = f"of {len(label)} letters" if len(label) > LONGEST_LABEL else problem
        try:
            label.encode()
        except UnicodeEncodeError:
            problem = "that is no Unicode: it holds half of a surrogate pair"
            action = "give another name; of a folder or file with letters of UTF-8: LC_ALL=C.UTF-8 hf-free ..."
    elif not -(2**63) <= label < 2**63:
        problem = "beyond 64 bits"
    if problem:
        raise LearnerError(
            f"label {ascii(label)[:50]} {problem}",
            allowed=f"texts of at most {LONGEST_LABEL} letters, whole numbers of at most 64 bits",
            action=action,
        )


def classes_of(labels: Iterable[Label]) -> list[Label]:
    """The classes that occur, in an order that does not depend on that of the pictures: numbers first, each type
    sorted.

    Raises:
        LearnerError: bool and int labels together: True equals 1, so that two classes would become one.
    """
    values = list(labels)
    if {bool, int} <= {type(value) for value in values}:
        raise LearnerError("labels of the types bool and int", allowed="labels of one type", action="convert them")
    texts = {value for value in values if isinstance(value, str)}
    numbers = {value for value in values if not isinstance(value, str)}
    return [*sorted(numbers), *sorted(texts)]


def check_several(classes: Sequence[Label], count: int) -> None:
    """Refuse a support set of fewer than two classes.

    Raises:
        LearnerError: with what to add.
    """
    if len(classes) < 2:
        raise LearnerError(
            f"all {count} support pictures have the label {classes[0]!r}" if classes else "no labels",
            allowed="at least two classes",
            action="add pictures of another class",
        )
