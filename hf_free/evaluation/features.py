"""Features of images, extracted once per size."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hf_free.data.decoding import PictureError
from hf_free.data.images import PictureBatch, Preprocessing, Progress
from hf_free.evaluation.datasets import LabeledImages
from hf_free.learner.adapting import check_features
from hf_free.learner.batchnorm import evaluation_mode
from hf_free.learner.embedder import Embedder
from hf_free.learner.embedding import Embedding
from hf_free.learner.pooled_backbone import PooledBackbone
from hf_free.runtime.device import deviation
from hf_free.runtime.side_by_side import in_order
from hf_free.teachers.folding import fold_batchnorm

BATCH = 256
"""Images per pass when extracting features."""

BATCH_BESIDE = 128
"""The same where several threads take a part each: the more parts, the less one waits for the other in the end."""

MAX_FOLDING = 1e-4
"""Relative difference allowed between the features of a learner whose BatchNorm is folded and its own."""

MOST_BYTES = 2 * 2**30
"""Bytes of decoded pictures that are kept, over all sizes; a single size may exceed it."""


@dataclass
class FeatureSet:
    """One way of turning pictures into features, ready to be scored.

    Attributes:
        method: Its name in the table.
        features: (N, D) each; several where the row is their mean; none where they cannot be computed.
        seconds: Time the extraction took.
        note: What a reader should know; the reason where there are no features.
        best_method: Name of a further row for the best of several features; empty: no such row.
        chosen_method: Name of a row for the best of them as one could have known: for each half of the episodes, the
            one that is best on the other half; empty: no such row.
        embedding: What made the features and weights them by an episode's support; None leaves them unweighted.
    """

    method: str
    features: list[Tensor] = field(default_factory=list)
    seconds: float = 0.0
    note: str = ""
    best_method: str = ""
    chosen_method: str = ""
    embedding: Embedding | None = None


class ImageSizes:
    """Pictures of a data set at the sizes that the networks ask for; each size is made once as long as all fit.

    Several threads may ask.

    Args:
        data: The data set.
        places: Positions of the pictures wanted, (N,); None takes them all.
        progress: Called while pictures are read.
    """

    def __init__(self, data: LabeledImages, places: Tensor | None = None, progress: Progress | None = None) -> None:
        self._data, self._places = data, torch.arange(len(data)) if places is None else places
        self._progress, self.more_frames = progress, 0
        self._made, self._lock = dict[Preprocessing, Tensor](), threading.Lock()

    def __len__(self) -> int:
        return len(self._places)

    def batches(self, preprocessing: Preprocessing, count: int) -> Iterator[Tensor]:
        """`at` in parts of `count` pictures, which are not cached unless they are already."""
        if preprocessing in self._made:
            yield from self._made[preprocessing].split(count)
            return
        more_frames = 0
        for places in self._places.split(count):
            part = self._read(places, preprocessing)
            more_frames += part.more_frames
            yield part.images
        self.more_frames = more_frames

    def at(self, preprocessing: Preprocessing) -> Tensor:
        """(N, channels, size, size), uint8 or float32 in [0, 1], see `LabeledImages.read`."""
        with self._lock:
            if preprocessing not in self._made:
                batch = self._read(self._places, preprocessing, self._progress)
                self._make_room(batch.images)
                self._made[preprocessing], self.more_frames = batch.images, batch.more_frames
            self._made[preprocessing] = made = self._made.pop(preprocessing)  # the last one used
            return made

    def _make_room(self, images: Tensor) -> None:
        """Forget the least recently used sizes until these pictures fit; they are read again when asked for."""
        while self._made and images.nbytes + sum(kept.nbytes for kept in self._made.values()) > MOST_BYTES:
            del self._made[next(iter(self._made))]

    def _read(self, places: Tensor, preprocessing: Preprocessing, progress: Progress | None = None) -> PictureBatch:
        """The pictures at these positions; an error names positions in the whole data set."""
        try:
            return self._data.select(places).read(preprocessing, progress)
        except PictureError as error:
            error.places = tuple(places[list(error.places)].tolist())
            raise


def _folded(learner: Embedder) -> Embedder:
    """The learner with BatchNorm folded into its convolutions, where that can be done and changes no more than
    rounding does; else itself. It stays as it is, and shares everything else with the copy."""
    with evaluation_mode(learner):
        backbone = fold_batchnorm(learner.backbone)
        if backbone is None:
            return learner
        folded = copy.copy(learner)
        folded._modules = {**learner._modules, "backbone": backbone}
        size, generator = learner.config.image_size, torch.Generator().manual_seed(0)
        images = torch.rand((4, learner.config.channels, size, size), generator=generator)
        is_same = deviation(folded.features(images), learner.features(images)) <= MAX_FOLDING
    return folded if is_same else learner


def _with_faster_teachers(learner: Embedder) -> Embedder:
    """A pooled learner whose teachers all stay in memory, so that several threads may ask them, each by a faster copy
    (`hf_free.teachers.teacher.Teacher.faster`); any other learner itself."""
    from hf_free.teachers.pool import TeacherPool  # not every learner has teachers

    backbone = learner.backbone
    if not isinstance(backbone, PooledBackbone) or not isinstance(backbone.classifiers, TeacherPool):
        return learner
    if learner.device.type != "cpu" or not backbone.classifiers.is_asked_beside:
        return learner
    faster = copy.copy(learner)
    with evaluation_mode(learner):
        asked = backbone.asking([teacher.faster() for teacher in backbone.classifiers])
    faster._modules = {**learner._modules, "backbone": asked}
    return faster


def learner_features(
    learner: Embedder, images: ImageSizes, progress: Progress | None = None, name: str = "learner"
) -> Tensor:
    """The learner's features (N, D) of all pictures, parts of which are embedded by several threads at once.

    Raises:
        BrokenLearnerError: one is NaN or infinite.
    """
    parts, is_shared_out = list[Tensor](), learner.may_be_shared_out
    faster = _folded(learner) if is_shared_out else _with_faster_teachers(learner)
    is_beside, learner = is_shared_out or faster is not learner, faster
    pictures = images.at(learner.preprocessing).split(BATCH_BESIDE if is_beside else BATCH)
    with evaluation_mode(learner):  # once for all threads
        for part in in_order(learner.embed, pictures, None if is_beside else 1):
            parts.append(part)
            if progress is not None:
                progress(f"features of the {name}", len(parts), len(pictures))
    features = torch.cat(parts)
    check_features(features)
    return features
