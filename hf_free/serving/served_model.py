"""What is served: a teacher, or a saved few-shot classifier, behind one call from picture files to logits."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from hf_free.data.decoding import PictureError, decode
from hf_free.data.images import to_float
from hf_free.errors import LearnerError, MissingFilesError, TeacherError
from hf_free.learner.classifier import FewShotClassifier
from hf_free.learner.format import CLASSIFIER_CONFIG
from hf_free.runtime.given import from_home
from hf_free.serving.protocol import Function, Refusal, scores_of
from hf_free.teachers.loader import load_teacher
from hf_free.teachers.reference import TeacherReference
from hf_free.teachers.teacher import Teacher

SMALLEST = 1e-30
"""A classifier's probability of 0 counts as this where its logarithm is asked for."""


MOST_HELD = 2**24
"""Values of decoded pictures that are held at once, 64 MiB; one more picture may come on top. A picture of a few
kilobytes can have millions of pixels, so pictures are decoded one after the other, whoever sent them."""


class ServedModel(Protocol):
    """A model that answers."""

    name: str
    labels: tuple[str, ...]
    size: tuple[int, int, int]
    """(channels, height, width) that it sees."""

    def scores(self, pictures: Sequence[bytes], function: Function) -> Tensor:
        """Picture files -> scores (B, N), one network pass at a time.

        Raises:
            Refusal: a picture that cannot be read, or a function that the model does not have.
        """


class ServedTeacher:
    """A teacher that answers.

    Args:
        teacher: It sees the whole picture, resized to its own size.
    """

    def __init__(self, teacher: Teacher) -> None:
        record = teacher.record
        self.name, self.size, self._teacher = record.reference, record.input_size, teacher
        self.labels = record.label_names or tuple(f"LABEL_{index}" for index in range(record.num_classes))
        self._lock = threading.Lock()

    @torch.no_grad()
    def scores(self, pictures: Sequence[bytes], function: Function) -> Tensor:
        """See `ServedModel`."""
        rows, held = torch.empty(len(pictures), len(self.labels)), dict[int, Tensor]()
        with self._lock:
            for place, picture in enumerate(pictures):
                held[place] = _read(picture, max(self.size[1:])).to(self._teacher.device)
                if sum(image.numel() for image in held.values()) > MOST_HELD:
                    self._fill(rows, held)
                    held = {}
            self._fill(rows, held)
        return scores_of(rows, function)

    def _fill(self, rows: Tensor, held: Mapping[int, Tensor]) -> None:
        """Logits of the held pictures into their rows (B, N), those of one shape in one pass."""
        for shape in {image.shape for image in held.values()}:
            places = [place for place, image in held.items() if image.shape == shape]
            batch = torch.stack([held[place] for place in places])
            rows[places] = self._teacher.logits(batch).float().cpu()
            if not rows[places].isfinite().all():
                raise TeacherError(f"{self.name} answers NaN or infinite numbers about a picture")


class ServedClassifier:
    """A saved few-shot classifier that answers; it names one class per picture, a threshold for none is not used.

    Args:
        classifier: See `hf_free.learner.classifier`.
        name: Its name in messages.
    """

    def __init__(self, classifier: FewShotClassifier, name: str) -> None:
        config = classifier.embedder.config
        self.name = name
        self.size: tuple[int, int, int] = (config.channels, config.image_size, config.image_size)
        self.labels = tuple(str(label) for label in classifier.classes)
        self._classifier, self._lock = classifier, threading.Lock()

    @torch.no_grad()
    def scores(self, pictures: Sequence[bytes], function: Function) -> Tensor:
        """See `ServedModel`."""
        if function == "sigmoid":
            raise Refusal(400, "function_to_apply sigmoid of a few-shot classifier; allowed: softmax, none")
        with self._lock:
            for picture in pictures:
                _read(picture, max(self.size[1:]))  # refused before the network is asked
            found = self._classifier.predict_proba(list(pictures)).float()
        return found if function == "softmax" else found.clamp_min(SMALLEST).log()


def open_model(
    model: str,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | Path | None = None,
    device: str = "cpu",
) -> ServedModel:
    """Load what a text names: a folder with a classifier.json, or a Hub id that has one, else a teacher.

    Args:
        model: A Hub id, a folder, a finished run of `hf-free adapt`.
        revision: Branch, tag or commit.
        token: Hub token.
        cache_dir: Folder of the download cache.
        device: Where it computes.

    Raises:
        HfFreeError: it names neither; see `hf_free.teachers.loader.load_teacher`.
    """
    folder = from_home(model)
    if folder.is_dir() and not (folder / CLASSIFIER_CONFIG).is_file():
        return ServedTeacher(load_teacher(model, device=device))
    try:
        classifier = FewShotClassifier.from_pretrained(
            model, revision=revision, token=token, cache_dir=cache_dir, device=device
        )
        return ServedClassifier(classifier, Path(model).name if folder.is_dir() else model)
    except (LearnerError, MissingFilesError) as error:
        if folder.is_dir() or CLASSIFIER_CONFIG not in error.given:
            raise
    reference = TeacherReference.parse(model if revision is None else f"{model}@{revision}")
    return ServedTeacher(load_teacher(reference, token=token, cache_dir=cache_dir, device=device))


def _read(picture: bytes, size: int) -> Tensor:
    try:
        return to_float(decode(picture, name="the picture", size=size).pixels)
    except PictureError as error:
        raise Refusal(400, " ".join(error.given.split())[:300]) from None
