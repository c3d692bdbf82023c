"""What a learner is measured against: pixels, an untrained backbone, and its teachers in several combinations."""

from __future__ import annotations

import copy
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_free.data.images import Preprocessing, Progress, to_float
from hf_free.errors import HfFreeError
from hf_free.evaluation.features import BATCH, FeatureSet, ImageSizes, learner_features
from hf_free.learner.backbone import timm_settings
from hf_free.learner.embedder import Embedder
from hf_free.learner.heads import normalize_features
from hf_free.provenance.against_teachers import BEST_TEACHER
from hf_free.runtime.side_by_side import in_order

if TYPE_CHECKING:
    from hf_free.provenance.teacher_record import TeacherRecord
    from hf_free.teachers.pool import TeacherPool
    from hf_free.teachers.teacher import Teacher

PIXEL_GRID = 8
"""Side to which pictures are averaged for the pixel baseline."""


def untrained(learner: Embedder, images: ImageSizes, seed: int) -> FeatureSet:
    """The same backbone, freshly initialized, without projection and center; a pooled learner has none of its own."""
    if learner.embedding.pooled is not None:
        return FeatureSet("untrained", note="not available: a pooled learner has no network of its own")
    start = time.perf_counter()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config, inputs = replace(learner.config, init_from=None), replace(learner.inputs, batchnorm="running")
        fresh = Embedder(config, inputs=inputs, backbone=learner.model_args)
    features = learner_features(fresh.to(learner.device).eval(), images)
    return FeatureSet(f"untrained {learner.config.backbone}", [features], time.perf_counter() - start)


def pixels(learner: Embedder, images: ImageSizes) -> FeatureSet:
    """The learner's input itself, average-pooled to 8x8 and normalized as the learner does."""
    start = time.perf_counter()
    pictures = images.at(learner.preprocessing)
    pooled = torch.cat([F.adaptive_avg_pool2d(to_float(part), PIXEL_GRID) for part in pictures.split(BATCH)])
    features = ((pooled.to(learner.device) - learner.mean) / learner.std).flatten(1)
    return FeatureSet(f"pixels ({PIXEL_GRID}x{PIXEL_GRID})", [features], time.perf_counter() - start)


def teacher_preprocessing(record: TeacherRecord) -> Preprocessing:
    """How a teacher is shown real pictures: with its own filter and crop, as timm or transformers' processor would.

    Squashing the whole picture instead costs about a point at 1 shot on flowers (docs/experiments).
    """
    channels, height, width = record.input_size
    return Preprocessing(max(height, width), channels, record.interpolation, record.crop, record.resize)


def teacher_answers(teacher: Teacher, images: ImageSizes, device: torch.device) -> tuple[Tensor, Tensor]:
    """One teacher's features (N, F) and logits (N, C) of all pictures."""
    preprocessing = teacher_preprocessing(teacher.record)
    teacher, answers = teacher.faster(), []
    with torch.no_grad():
        for part in images.at(preprocessing).split(BATCH):
            output = teacher(to_float(part.to(device)))
            answers.append((output.features.float().flatten(1), output.logits.float()))
    return torch.cat([features for features, _ in answers]), torch.cat([logits for _, logits in answers])


def teacher_embeddings(
    pool: TeacherPool,
    images: ImageSizes,
    device: torch.device,
    progress: Progress | None = None,
    concatenations: Sequence[int] = (),
) -> Iterator[FeatureSet]:
    """Every way of using the teachers without training: singly, averaged, the first few and all together.

    A teacher that cannot be loaded becomes an embedding without features that says why.
    """
    start = time.perf_counter()
    features, logits, broken = [], [], list(pool.skipped)
    averages: dict[tuple[object, ...], _ParameterAverage] = defaultdict(_ParameterAverage)
    workers = None if device.type == "cpu" and pool.is_asked_beside else 1  # None: a thread asks each
    for index, one in in_order(partial(_ask, images=images, device=device), _loaded(pool, images, device), workers):
        if isinstance(one, str):
            broken.append((pool.records[index].reference, one))
            continue
        features.append(normalize_features(one.features))
        logits.append(normalize_features(one.logits))
        averages[_architecture(one.teacher)].add(one.teacher)
        if progress is not None:
            progress("features of the teachers", index + 1, len(pool))
    seconds = time.perf_counter() - start
    if features:
        many = len(features)
        yield FeatureSet(
            f"one teacher's features (mean over {many})",
            features,
            seconds,
            best_method="best single teacher (chosen on these very episodes: an upper bound)" if many > 1 else "",
            chosen_method=BEST_TEACHER if many > 1 else "",
        )
    for average in averages.values():
        if average.count > 1:
            yield average.embedding(images, device)
    for count in concatenations:
        if 1 < count < len(features):
            first = torch.cat(features[:count], 1)
            yield FeatureSet(f"first {count} teachers' features, concatenated", [first], seconds * count / many)
    if len(features) > 1:
        yield FeatureSet(f"all {many} teachers' features, concatenated", [torch.cat(features, 1)], seconds)
        yield FeatureSet(f"all {many} teachers' logits, concatenated", [torch.cat(logits, 1)], seconds)
    for reference, reason in broken:
        yield FeatureSet(f"teacher {reference}", note=f"not available: {' '.join(reason.split())}")


class _Asked(NamedTuple):
    """A teacher and what it says about all pictures."""

    teacher: Teacher
    features: Tensor
    logits: Tensor


def _loaded(pool: TeacherPool, images: ImageSizes, device: torch.device) -> Iterator[tuple[int, Teacher | str]]:
    """Each teacher by its index, its pictures read, or why it cannot be asked."""
    for index, record in enumerate(pool.records):
        if record.answers_only:
            yield index, "a black box shows no features, and each question may cost"
            continue
        try:
            teacher = pool[index].to(device)
            images.at(teacher_preprocessing(record))
            yield index, teacher
        except HfFreeError as error:
            yield index, str(error)


def _ask(one: tuple[int, Teacher | str], images: ImageSizes, device: torch.device) -> tuple[int, _Asked | str]:
    index, teacher = one
    if isinstance(teacher, str):
        return index, teacher
    try:
        return index, _Asked(teacher, *teacher_answers(teacher, images, device))
    except HfFreeError as error:
        return index, str(error)


class _ParameterAverage:
    """The mean of several teachers' weights and BatchNorm statistics, summed up one teacher at a time."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, teacher: Teacher) -> None:
        """Take in one more teacher of the same architecture."""
        state = {name: value.cpu() for name, value in teacher.network.state_dict().items()}  # MPS has no doubles
        if not self.count:
            self._teacher = teacher
            self._sums = {name: value.double() for name, value in state.items() if value.is_floating_point()}
        else:
            for name in list(self._sums):
                if state[name].shape != self._sums[name].shape:
                    del self._sums[name]  # a classifier of another width; the features do not need it
                else:
                    self._sums[name] += state[name].double()
        self.count += 1

    def embedding(self, images: ImageSizes, device: torch.device) -> FeatureSet:
        """Features of the averaged network."""
        from hf_free.teachers.saving import build_teacher

        start = time.perf_counter()
        network = copy.deepcopy(self._teacher.network)
        state = network.state_dict()
        state.update({name: (value / self.count).to(state[name].dtype) for name, value in self._sums.items()})
        network.load_state_dict(state)
        averaged = build_teacher(network, self._teacher.record).to(device)
        features, _ = teacher_answers(averaged, images, device)
        name = f"teachers' parameters averaged ({self.count} {self._teacher.record.architecture})"
        dead = bool((features == features[0]).all())
        note = "the averaged network answers every picture alike" if dead else ""
        return FeatureSet(name, [features], time.perf_counter() - start, note)


def _architecture(teacher: Teacher) -> tuple[object, ...]:
    """What must agree for two teachers' parameters to be averaged: everything but the classifier's width."""
    classifier = timm_settings(teacher.network).get("classifier") or ()
    names = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    shapes = [
        (name, tuple(value.shape))
        for name, value in teacher.network.state_dict().items()
        if not name.startswith(tuple(f"{part}." for part in names))
    ]
    return teacher.record.architecture, teacher.record.input_size, *shapes
