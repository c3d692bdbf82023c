"""A teacher that only answers: no weights, no gradients, no features, no BatchNorm statistics."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import torch
from torch import Tensor, nn

from hf_free.data.resizing import resize
from hf_free.errors import TeacherError
from hf_free.provenance.teacher_record import TeacherRecord
from hf_free.runtime.device import Precision
from hf_free.teachers.answer_form import Answer, AnswerForm, logits_of
from hf_free.teachers.oracle import Oracle
from hf_free.teachers.teacher import Teacher, TeacherOutput

GRAY_LEVELS = 255
"""Pictures are sent with 8 bits: pictures that differ by less than one level are the same to a black box."""


class BlackBox(Teacher):
    """A classifier behind an address, as a teacher.

    Its logits are logarithms of probabilities where it gives no logits: they differ from the network's own by a shift
    per picture, which nothing here depends on. Its centered logits stand in for features.

    Args:
        oracle: Asks it about pictures.
        form: What its answers mean.
        record: What is known about it.
        resizes: Whether pictures are brought to `record.input_size` before they are sent; else they go as they are.
    """

    def __init__(self, oracle: Oracle, form: AnswerForm, record: TeacherRecord, *, resizes: bool = False) -> None:
        nn.Module.__init__(self)  # there is no network to freeze
        self.record, self.oracle, self.form, self._resizes = record, oracle, form, resizes
        for name, values in (("mean", record.mean), ("std", record.std)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)
        chosen = None if record.classes is None else torch.tensor(record.classes)
        self.register_buffer("chosen_classes", chosen, persistent=False)
        self.training = False

    @property
    def network(self) -> NoReturn:
        """There is no network.

        Raises:
            TeacherError: always.
        """
        raise self._refusal("has no network to look into")

    def train(self, mode: bool = True) -> BlackBox:
        """There is nothing to train."""
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> BlackBox:
        nn.Module._apply(self, fn, recurse)
        return self

    def forward(self, images: Tensor) -> TeacherOutput:
        """Logits of images in [0, 1], and the same centered in place of features."""
        logits = self.logits(images)
        return TeacherOutput(logits, logits - logits.mean(1, keepdim=True))

    def logits(self, images: Tensor) -> Tensor:
        """Logits (batch, num_classes) of images in [0, 1], without gradients; each picture is asked about once.

        Raises:
            TeacherError: gradients are wanted, or its answers cannot be read.
            QueryBudgetError: its queries are not enough for all pictures; none is sent.
            HubError: it cannot be reached.
        """
        if images.requires_grad and torch.is_grad_enabled():
            raise self._refusal("gives no gradients")
        return self._rows(images, self.oracle.answers(self._sent(images)))

    def labels(self, images: Tensor) -> Tensor:
        """`logits`, as far as it answers: NaN for pictures beyond the budget, or where it fails."""
        return self._rows(images, self.oracle.answers(self._sent(images), keep_going=True))

    def features(self, images: Tensor) -> Tensor:
        """Its centered logits."""
        return self(images).features

    def fold(self, precision: Precision) -> None:
        """There is nothing to fold."""

    @property
    def is_tried(self) -> bool:
        """It needs no faster copy."""
        return True

    @property
    def folded_bytes(self) -> int:
        """No memory."""
        return 0

    def batchnorm_layers(self) -> list[nn.Module]:
        """There are no visible BatchNorm layers."""
        return []

    def _sent(self, images: Tensor) -> Tensor:
        """Images in [0, 1] as the bytes that are sent, on the CPU."""
        if self._resizes:
            images = resize(images, self.record.input_size[1:], self.record.interpolation)
        return (images.detach().float() * GRAY_LEVELS).round_().clamp_(0, GRAY_LEVELS).to("cpu", torch.uint8)

    def _rows(self, images: Tensor, answers: list[Answer | None]) -> Tensor:
        nothing = [torch.nan] * len(self.form.labels)
        try:
            rows = [nothing if answer is None else logits_of(answer, self.form) for answer in answers]
        except ValueError as error:
            raise TeacherError(
                f"{self.record.reference} {error}",
                allowed=f"{self.form.kind} of its {len(self.form.labels)} labels, as at first",
                action="its model may have changed: leave it out, or train a new run",
            ) from None
        logits = torch.tensor(rows, dtype=torch.float32, device=images.device).view(len(answers), -1)
        return logits if self.chosen_classes is None else logits[:, self.chosen_classes.to(images.device)]

    def _refusal(self, what: str) -> TeacherError:
        return TeacherError(
            f"{self.record.reference} is a black box, which {what}",
            allowed="its answers alone: hf-free train --method default, or an inversion by queries",
            action="--inversion zero-order inverts black boxes; or give a teacher whose weights are available",
        )
