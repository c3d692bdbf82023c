"""What a classifier says of picture files: one row per picture, also for one that cannot be read."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hf_free.data.decoding import parse_color
from hf_free.data.images import LazyPictures, Progress, read_batch
from hf_free.evaluation.picture_sources import NamedPicture
from hf_free.learner.classifier import FewShotClassifier
from hf_free.learner.labels import Label
from hf_free.provenance.reading import Json
from hf_free.runtime.text import spreadsheet_cell

PICTURES_AT_ONCE = 256
"""Pictures that are decoded and embedded at a time; only their features are kept."""


@dataclass(frozen=True)
class Prediction:
    """What is said of one picture.

    Attributes:
        image: Its name.
        path: The file.
        label: Its class; None where it could not be read, or is rejected.
        probabilities: That of each class by its label; None where the picture could not be read.
        top: The most likely classes with their probabilities, the most likely first.
        confidence: What the threshold is compared with.
        rejected: Whether it is of no known class; None where rejection was not asked for.
        error: Why it could not be read.
    """

    image: str
    path: Path
    label: Label | None = None
    probabilities: dict[Label, float] | None = None
    top: tuple[tuple[Label, float], ...] = ()
    confidence: float | None = None
    rejected: bool | None = None
    error: str | None = None

    @property
    def probability(self) -> float | None:
        """Probability of the label; None for a rejected picture."""
        return None if self.label is None or self.probabilities is None else self.probabilities[self.label]

    def to_dict(self, top_k: int | None = None) -> Json:
        """As JSON; with the k most likely classes where they were asked for."""
        named = [{"label": label, "probability": value} for label, value in self.top[:top_k]]
        return {
            "image": self.image,
            "label": self.label,
            "probability": self.probability,
            "probabilities": self.probabilities,
            **({} if top_k is None else {"top": named}),
            **({} if self.rejected is None else {"rejected": self.rejected, "confidence": self.confidence}),
            "error": self.error,
        }


@dataclass(frozen=True)
class Predictions:
    """All rows, and what a reader should know of the files.

    Attributes:
        rows: One per picture, in order.
        more_frames: How many files hold more pictures than the one that was seen.
    """

    rows: list[Prediction]
    more_frames: int

    @property
    def unread(self) -> list[Prediction]:
        """The pictures that could not be read."""
        return [row for row in self.rows if row.error]


def predict_files(
    classifier: FewShotClassifier, pictures: Sequence[NamedPicture], *, progress: Progress | None = None
) -> Predictions:
    """Read and classify picture files, in parts, so that memory does not grow with their number.

    A classifier whose BatchNorm is transductive sees all pictures in one pass, as it has to.

    Args:
        classifier: The classifier, with its rejection and its transductive head.
        pictures: The files.
        progress: Called while they are read.
    """
    network, background = classifier.embedder, parse_color(classifier.background)
    at_once = len(pictures) if network.batchnorm == "transductive" else PICTURES_AT_ONCE
    features: list[Tensor] = []
    places: list[int] = []
    errors: dict[int, str] = {}
    more_frames = 0
    for start in range(0, len(pictures), max(1, at_once)):
        part = [str(picture.path) for picture in pictures[start : start + at_once]]
        read = read_batch(
            LazyPictures(part, part),
            network.preprocessing,
            background=background,
            keep_going=True,
        )
        more_frames += read.more_frames
        errors |= {start + place: error.given for place, error in read.errors.items()}
        if len(read.images):
            features.append(classifier.embed(read.images))
            places += [start + place for place in read.places.tolist()]
        if progress is not None:
            progress("pictures", min(start + at_once, len(pictures)), len(pictures))
    rows = {
        place: Prediction(pictures[place].name, pictures[place].path, error=text) for place, text in errors.items()
    }
    if features:
        answers = classifier.answers(torch.cat(features))
        labels, sure = classifier.labels_of(answers), answers.confidence.tolist()
        likeliest = classifier.likeliest(answers.probabilities, len(classifier.classes))
        asked = classifier.rejection is not None
        for row, place in enumerate(places):
            rows[place] = Prediction(
                pictures[place].name,
                pictures[place].path,
                label=labels[row],
                probabilities=dict(zip(classifier.classes, answers.probabilities[row].tolist(), strict=True)),
                top=tuple(likeliest[row]),
                confidence=sure[row],
                rejected=labels[row] is None if asked else None,
            )
    return Predictions([rows[place] for place in range(len(pictures))], more_frames)


def as_csv(rows: Sequence[Prediction], top_k: int = 1) -> str:
    """Rows as CSV with a header: image, label, probability, further likely classes, rejected if asked for, and error.

    Names that a spreadsheet would run as formulas begin with an apostrophe; the JSON form has them as they are.

    Args:
        rows: The predictions.
        top_k: How many classes a row names; `label_2`, `probability_2` and so on are the further ones.
    """
    asked = any(row.rejected is not None for row in rows)
    classes = max((len(row.top) for row in rows), default=1)
    further = range(2, min(top_k, classes) + 1)
    header = ["image", "label", "probability"]
    header += [name for place in further for name in (f"label_{place}", f"probability_{place}")]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*header, *(["rejected"] if asked else []), "error"])
    for row in rows:
        cells = ["" if row.label is None else spreadsheet_cell(row.label), _number(row.probability)]
        for place in further:
            named = row.top[place - 1 : place]
            cells += [spreadsheet_cell(named[0][0]), _number(named[0][1])] if named else ["", ""]
        cells += [{True: "yes", False: "no", None: ""}[row.rejected]] if asked else []
        writer.writerow([spreadsheet_cell(row.image), *cells, spreadsheet_cell(row.error or "")])
    return buffer.getvalue()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
