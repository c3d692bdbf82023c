"""Adding teachers to a learner: what it knows of its old teachers is kept by asking the learner, not them.

The old learner, frozen, answers for its teachers; the new learner starts from its weights, with columns for the new
teachers beside the old ones, and learns both kinds of answers at once (learning without forgetting, Li & Hoiem 2016:
an old network's outputs on new pictures are the target that keeps its knowledge).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain

import torch
from torch import Tensor, nn

from hf_free.config.recipes import recipe_values
from hf_free.config.sections import LearnerConfig
from hf_free.data.logits import LogitBlock, LogitLayout
from hf_free.errors import ConfigError
from hf_free.learner.meta_learner import MetaLearner
from hf_free.learner.precision import fitting_precision
from hf_free.provenance.recorded_teacher import RecordedTeacher
from hf_free.provenance.run_record import KnownTeachers
from hf_free.provenance.teacher_record import TeacherRecord
from hf_free.publishing.unredacted import unredacted
from hf_free.runtime.device import Precision
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.soft_labels import LabelSource, teacher_sources

_SHAPE = ("backbone", "image_size", "channels")
"""Settings that cannot change when a learner is continued."""


class PreviousLearner:
    """A learner that is continued.

    Args:
        learner: The learner; it is frozen from here on.
        teachers: Its teachers, in the order of its answers.
    """

    def __init__(self, learner: MetaLearner, teachers: Sequence[RecordedTeacher]) -> None:
        self.learner = learner.eval().requires_grad_(False)
        self.teachers = list(teachers)
        sizes = learner.embedding.sizes or ()
        outputs = learner.record.answer_outputs or (None,) * len(sizes)
        pairs = zip(sizes, outputs, strict=True)
        found = [LogitBlock((), 0, size, chosen) for size, chosen in pairs]
        self.blocks = LogitLayout.side_by_side(found).blocks
        """The columns of what it predicts."""
        self.keys = [_key(teacher) for teacher in self.teachers]

    @classmethod
    def load(
        cls,
        wanted: LearnerConfig,
        *,
        source: str,
        recipe: str,
        token: str | None = None,
        cache_dir: str | None = None,
    ) -> tuple[PreviousLearner, LearnerConfig]:
        """The learner to continue, and the settings that continue it.

        Backbone, picture size and channels are the old learner's; so are views and head unless others are asked for.

        Args:
            wanted: What was asked for.
            source: Hub id, or the learner's folder.
            recipe: The recipe that `wanted` was laid over.
            token: Hub token.
            cache_dir: Folder of the download cache.

        Raises:
            ConfigError: another backbone, size or number of channels is asked for.
            LearnerError: no learner there.
        """
        learner = MetaLearner.from_pretrained(source, token=token, cache_dir=cache_dir)
        settings = replace(_inherited(wanted, recipe, learner), init_from=source)
        return cls(learner, unredacted(source, learner.record).teachers), settings

    def place_of(self, record: TeacherRecord) -> int | None:
        """The block that a teacher already has, found by the hash of its weights; None if it has none, or one that
        does not say which of its outputs it holds."""
        key = _key(RecordedTeacher.of(record))
        if key is None or key not in self.keys or len(self.keys) != len(self.blocks):
            return None
        place = self.keys.index(key)
        block = self.blocks[place]
        return place if block.size == record.num_classes or block.chosen is not None else None

    def grow(self, projection: nn.Linear) -> nn.Linear:
        """Put the previous learner's projection into the first rows of a wider one."""
        old = self.learner.embedding.projection
        if old is not None and self.blocks:
            width = sum(block.size for block in self.blocks)
            with torch.no_grad():
                projection.weight[:width] = old.weight
                projection.bias[:width] = old.bias if old.bias is not None else 0.0
        return projection

    def all_teachers(self, new: Sequence[TeacherRecord]) -> list[RecordedTeacher]:
        """All teachers, old and new, each once."""
        entries = list(map(RecordedTeacher.of, new))
        listed = {_key(entry): entry for entry in entries}
        old = [listed.get(key) or teacher for key, teacher in zip(self.keys, self.teachers, strict=True)]
        return old + [entry for entry in entries if (key := _key(entry)) is None or key not in self.keys]


@dataclass(frozen=True)
class PreviousSource:
    """The learner that is continued answers for those of its teachers that are not in the pool."""

    learner: MetaLearner
    places: tuple[int, ...]
    columns: tuple[int, ...]
    """Where the logits of these blocks stand among all that it predicts."""

    def logits(self, images: Tensor, precision: Precision) -> Tensor:
        """See `hf_free.teachers.soft_labels.LabelSource`."""
        precision, device = fitting_precision(self.learner, precision), self.learner.device
        with precision.autocast(device):
            predicted = self.learner.raw_answers(precision.layout(images.to(device).float() / 255))
        return predicted[:, list(self.columns)]


def lay_out(
    records: Sequence[TeacherRecord], previous: PreviousLearner | None = None, *, seed: int = 0
) -> LogitLayout:
    """The layout of a run's teachers; the first blocks are those of a learner that is continued.

    An old teacher that is listed again keeps its block, and is asked itself.

    Args:
        records: The teachers of the pool.
        previous: The learner that is continued, if any.
        seed: Seed of the subsets of large heads.
    """
    counts = [record.num_classes for record in records]
    if previous is None:
        return LogitLayout.of(counts, seed=seed)
    known = [previous.place_of(record) for record in records]
    return LogitLayout.of(counts, seed=seed, earlier=previous.blocks, known=known)


def label_sources(
    pool: TeacherPool, layout: LogitLayout, previous: PreviousLearner | None = None
) -> list[LabelSource]:
    """Who answers for which block of a layout: the teachers of the pool, and the previous learner for the others."""
    sources: list[LabelSource] = list(teacher_sources(pool, layout))
    places = tuple(place for place, block in enumerate(layout.blocks) if block.teacher is None)
    if previous is not None and places:
        columns = chain.from_iterable(range(layout.width)[layout.blocks[place].columns] for place in places)
        sources.append(PreviousSource(previous.learner, places, tuple(columns)))
    return sources


def known_teachers(
    previous: PreviousLearner | None, new: Sequence[TeacherRecord], layout: LogitLayout, *, without: Sequence[int] = ()
) -> KnownTeachers:
    """The teachers of a learner, old and new, for its record; those of the pool in `without` are left out."""
    new_ones = [record for index, record in enumerate(new) if index not in without]
    teachers = map(RecordedTeacher.of, new_ones) if previous is None else previous.all_teachers(new_ones)
    return KnownTeachers(
        teachers=tuple(teachers),
        answer_outputs=tuple(block.chosen for block in layout.without(without).blocks),
        teachers_before=None if previous is None else len(previous.teachers),
    )


def _inherited(wanted: LearnerConfig, recipe: str, learner: MetaLearner) -> LearnerConfig:
    """The old learner's settings wherever nothing but the recipe's value is asked for."""
    default = LearnerConfig(**recipe_values(recipe).get("learner", {}))
    old = learner.config
    for name in _SHAPE:
        value = getattr(wanted, name)
        if value not in (getattr(default, name), getattr(old, name)):
            raise ConfigError(
                f"learner.{name} = {value!r}, and {wanted.init_from} has {getattr(old, name)!r}",
                allowed="the old learner's own: its weights are continued",
                action=f"--set learner.{name}={getattr(old, name)}, or train without --from",
            )
    values = {entry.name: getattr(wanted, entry.name) for entry in fields(LearnerConfig)}
    kept = {name: getattr(old, name) for name, value in values.items() if value == getattr(default, name)}
    if wanted.views == default.views:
        kept["views"] = list(learner.views)
    return replace(wanted, **kept)


def _key(teacher: RecordedTeacher) -> tuple[str, tuple[int, ...]] | None:
    """What makes a teacher the same: its weights and the classes chosen of them; None where that is not recorded."""
    weights = teacher.sha256.get("model.safetensors")
    return None if weights is None else (weights, teacher.classes or ())
