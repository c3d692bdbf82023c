"""When a picture is of no known class: a threshold on how sure a classifier is, calibrated from its support."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hf_free.errors import LearnerError
from hf_free.learner.embedding import Embedding
from hf_free.learner.heads import Head, scores
from hf_free.runtime.given import short_form

FALSE_REJECTIONS = 0.1
"""Share of pictures of known classes that a threshold may reject, where nothing else is asked for."""

MAX_FOLDS = 200
"""Most classifiers that are fitted to calibrate; of a larger support several pictures are left out at a time."""


@dataclass(frozen=True)
class Rejection:
    """When `predict` says None.

    Attributes:
        threshold: Pictures of less confidence than this are of no known class.
        false_rejections: The share that it was calibrated for; None: it was set by hand and stays as it is.

    Raises:
        LearnerError: a threshold that is no finite number, or no share.
    """

    threshold: float
    false_rejections: float | None = None

    def __post_init__(self) -> None:
        is_number = isinstance(self.threshold, int | float) and not isinstance(self.threshold, bool)
        if not is_number or not math.isfinite(self.threshold):
            raise LearnerError(f"threshold={short_form(self.threshold)}", allowed="a finite number, as 0.5")
        if self.false_rejections is not None:
            check_share(self.false_rejections)


def is_share(value: object) -> bool:
    """Whether a value is a number above 0 and below 1."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1


def check_share(value: object) -> None:
    """Refuse a share of false rejections that is none.

    Raises:
        LearnerError: with what is allowed.
    """
    if not is_share(value):
        raise LearnerError(f"false_rejections={short_form(value)}", allowed="a number above 0 and below 1, as 0.1")


def confidence(logits: Tensor) -> Tensor:
    """How sure a head is that pictures are of a class it knows: scores (..., N) -> (...), the highest one.

    The highest score, not the highest probability: a picture that is like no class has low scores for all, which
    the softmax would not show.
    """
    return logits.amax(-1)


def threshold_for(
    embedding: Embedding, head: Head, support: Tensor, labels: Tensor, false_rejections: float = FALSE_REJECTIONS
) -> float:
    """The confidence below which the given share of left-out support pictures falls.

    Args:
        embedding: Weighs the features.
        head: Fitted without the pictures that are left out.
        support: Prepared features (S, D).
        labels: (S,), 0..N-1.
        false_rejections: That share.

    Raises:
        LearnerError: a share outside (0, 1), or no class with two pictures.
    """
    check_share(false_rejections)
    found = left_out_confidence(embedding, head, support, labels)
    if not len(found):
        raise LearnerError(
            "every class has one support picture, so that none can be left out to calibrate rejection",
            allowed="two or more pictures of at least one class",
            action="add pictures, or leave rejection (--reject) out; in Python Rejection(threshold) sets one by hand",
        )
    return torch.quantile(found.double(), false_rejections).item()


def left_out_confidence(embedding: Embedding, head: Head, support: Tensor, labels: Tensor) -> Tensor:
    """Confidence of support pictures, each classified without itself in the support.

    Pictures whose class has no other one are not left out. Of more than `MAX_FOLDS` pictures several are left out
    together, of each class in turn.

    Args:
        embedding: Weighs the features.
        head: The head.
        support: Prepared features (S, D).
        labels: (S,), 0..N-1.

    Returns:
        (M,) on the CPU, M the number of pictures in classes of two or more.
    """
    counts = torch.bincount(labels)
    found = []
    for places in folds(labels.tolist(), MAX_FOLDS):
        kept = torch.ones(len(labels), dtype=torch.bool, device=support.device)
        kept[places] = False
        if len(labels[kept].unique()) < len(counts):
            continue
        classifier = embedding.fit_head(head, support[kept][None], labels[kept][None], len(counts))
        found.append(confidence(scores(classifier, support[places][None])[0]))
    return torch.cat(found).cpu() if found else torch.empty(0)


def folds(labels: Sequence[int], most: int) -> list[list[int]]:
    """Positions that are left out together: each alone, or over `most` folds, each class as evenly as it goes."""
    order = sorted(range(len(labels)), key=lambda place: labels[place])
    count = min(most, len(order))
    return [order[start::count] for start in range(count)] if count else []
