"""A classifier's support set: pictures, or their features, in an order of their own.

Sums of floating-point numbers depend on their order. Here the order depends only on what the rows hold, not on when
they came: a classifier whose classes were added and removed is, bit for bit, the one that adapting to the same
pictures at once gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from hf_free.errors import LearnerError
from hf_free.learner.labels import Label, check_several, classes_of


@dataclass(frozen=True)
class SupportSet:
    """Labeled support pictures or features, on the CPU.

    Attributes:
        classes: The N classes.
        labels: (S,) index of each row's class.
        rows: Prepared pictures (S, C, H, W) in [0, 1], or features (S, D).
    """

    classes: tuple[Label, ...]
    labels: Tensor
    rows: Tensor

    @classmethod
    def of(cls, rows: Tensor, labels: Sequence[Label]) -> Self:
        """Put rows in their order: by class, then by what they hold.

        Args:
            rows: (S, ...) as the class has them.
            labels: One per row.

        Raises:
            LearnerError: fewer than two classes, or bool and int labels together.
        """
        classes = classes_of(labels)
        check_several(classes, len(rows))
        rows = rows.detach().to("cpu", torch.float32)
        positions = {name: index for index, name in enumerate(classes)}
        order = sorted(range(len(rows)), key=lambda row: (positions[labels[row]], rows[row].numpy().tobytes()))
        indices = torch.tensor([positions[labels[row]] for row in order])
        return cls(tuple(classes), indices, rows[torch.tensor(order)].contiguous())

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def holds_pictures(self) -> bool:
        """Whether the rows are pictures, not features."""
        return self.rows.ndim == 4

    @property
    def names(self) -> list[Label]:
        """The label of each row."""
        return [self.classes[index] for index in self.labels.tolist()]

    @property
    def counts(self) -> dict[Label, int]:
        """Number of rows of each class."""
        numbers = torch.bincount(self.labels, minlength=len(self.classes)).tolist()
        return dict(zip(self.classes, numbers, strict=True))

    def with_rows(self, rows: Tensor, name: Label) -> SupportSet:
        """Itself and more rows, all of one class, which may be a new one."""
        joined = torch.cat([self.rows, rows.detach().to("cpu", torch.float32)])
        return SupportSet.of(joined, [*self.names, *[name] * len(rows)])

    def without(self, name: Label) -> SupportSet:
        """Itself without one of its classes.

        Raises:
            LearnerError: only one class would be left.
        """
        if len(self.classes) < 3:
            raise LearnerError(
                f"without {name!r} the classifier would have one class",
                allowed="at least two classes",
                action="add another class first",
            )
        kept = self.labels != self.classes.index(name)
        return SupportSet.of(self.rows[kept], [label for label in self.names if label != name])
