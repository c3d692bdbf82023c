"""Labels of support pictures: any values in, plain classes and indices out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from hf_free.errors import LearnerError

Label = str | int


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
        return str(value) if isinstance(value, str) else value
    if value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value):
        raise LearnerError("a picture has no label", allowed="one label per picture", action="leave that picture out")
    raise LearnerError(
        f"label {str(value)[:50]!r} of type {type(value).__name__}",
        allowed="str, int or bool labels, one per picture",
        action="convert them, e.g. [str(label) for label in labels]",
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
