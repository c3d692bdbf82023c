"""What is put into a classifier by hand is looked at before it is used: its attributes are open to everybody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from hf_free.data.decoding import Color, parse_color
from hf_free.errors import LearnerError
from hf_free.learner.embedder import Embedder
from hf_free.learner.labels import Label, classes_of, plain_labels
from hf_free.learner.persistence import Origin
from hf_free.learner.support import SupportSet
from hf_free.learner.transductive import get_transductive
from hf_free.provenance.learner_record import LearnerRecord
from hf_free.runtime.given import check_kind


class Classifier(Protocol):
    """What is looked at of a `FewShotClassifier`."""

    embedder: Embedder
    weight: Tensor
    bias: Tensor
    classes: list[Label]
    support: SupportSet | None
    transductive: str | None
    background: Color
    origin: Origin | None
    record: LearnerRecord


def check_classifier(classifier: Classifier) -> None:
    """Refuse a classifier of which an attribute was set to what does not fit the others.

    Raises:
        LearnerError: with the attribute's name.
    """
    embedder = classifier.embedder
    _check_kind(embedder, "embedder", Embedder, optional=False)
    embedder.check()
    width = embedder.feature_dim
    weight, bias = classifier.weight, classifier.bias
    count = len(weight) if isinstance(weight, Tensor) and weight.ndim == 2 else 0
    if not count or not _is_tensor(weight, (count, width)):
        raise _unfit("weight", weight, f"a tensor of real numbers of shape (classes, {width})")
    if not _is_tensor(bias, (count,)):
        raise _unfit("bias", bias, f"a tensor of real numbers of shape ({count},)")
    _check_classes(classifier.classes, count)
    _check_support(classifier.support, count, embedder)
    if classifier.transductive is not None:
        get_transductive(classifier.transductive)
    parse_color(classifier.background)
    _check_kind(classifier.origin, "origin", Origin)
    _check_kind(classifier.record, "record", LearnerRecord, optional=False)


def _check_classes(classes: Sequence[Label], count: int) -> None:
    """Refuse what are not so many different labels."""
    allowed = f"a list of {count} different texts or whole numbers, one per row of weight"
    if not isinstance(classes, list | tuple):
        raise _unfit("classes", classes, allowed)
    if len(classes) != count:
        raise LearnerError(f"classes has {len(classes)} labels", allowed=allowed)
    try:
        different = len(classes_of(plain_labels(classes, count)))
    except LearnerError as error:
        raise LearnerError(f"classes: {error.given}", allowed=allowed) from None
    if different < count:
        raise LearnerError("a label is in classes twice", allowed=allowed)


def _check_support(support: SupportSet | None, count: int, embedder: Embedder) -> None:
    """Refuse what is no support set of so many classes for a network."""
    _check_kind(support, "support", SupportSet)
    if support is None:
        return
    rows, labels, config = support.rows, support.labels, embedder.config
    picture = (config.channels, config.image_size, config.image_size)
    size = len(rows) if isinstance(rows, Tensor) and rows.ndim else 0
    if not _is_tensor(rows, (size, embedder.feature_dim)) and not _is_tensor(rows, (size, *picture)):
        allowed = f"features (rows, {embedder.feature_dim}) or pictures (rows, {', '.join(map(str, picture))})"
        raise _unfit("support.rows", rows, allowed)
    is_long = isinstance(labels, Tensor) and labels.dtype == torch.long and tuple(labels.shape) == (size,)
    if not is_long or labels.unique().tolist() != list(range(count)):
        raise _unfit("support.labels", labels, f"a tensor (torch.int64) of {size} numbers, each of 0 to {count - 1}")


def _is_tensor(value: object, shape: tuple[int, ...]) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and tuple(value.shape) == shape


def _check_kind(value: object, name: str, kind: type, *, optional: bool = True) -> None:
    allowed = f"what it was before: {'None or ' if optional else ''}{kind.__name__}"
    check_kind(value, name, kind, allowed=allowed, optional=optional, error=LearnerError)


def _unfit(name: str, value: object, allowed: str) -> LearnerError:
    kind = f"{value.dtype}, {tuple(value.shape)}" if isinstance(value, Tensor) else f"of type {type(value).__name__}"
    return LearnerError(
        f"{name} is {kind}", allowed=allowed, action="set it to what it was, or adapt the learner again"
    )
