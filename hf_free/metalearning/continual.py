"""Adding teachers to a learner: what it knows of its own teachers is kept by asking it, not them.

The old learner, frozen, answers for its teachers; the new learner starts from its weights, with columns for the new
teachers beside the old ones, and learns both kinds of answers at once (learning without forgetting, Li & Hoiem 2016:
an old network's outputs on new pictures are the target that keeps its knowledge).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from hf_free.config.recipes import recipe_values
from hf_free.config.sections import LearnerConfig
from hf_free.data.logit_storage import store_logits
from hf_free.errors import ConfigError
from hf_free.learner.meta_learner import MetaLearner
from hf_free.learner.precision import fitting_precision
from hf_free.provenance.reading import Json, JsonView
from hf_free.provenance.run_record import KnownTeachers
from hf_free.provenance.teacher_record import TeacherRecord
from hf_free.runtime.device import Precision
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.soft_labels import ASKED_AT_ONCE, SoftLabels

_SHAPE = ("backbone", "image_size", "channels")
"""What cannot change when a learner is continued."""


class PreviousLearner:
    """A learner that is continued.

    Args:
        learner: It, frozen from here on.
        teachers: Records of its teachers, in the order of its answers.
    """

    def __init__(self, learner: MetaLearner, teachers: Sequence[JsonView]) -> None:
        self.learner = learner.eval().requires_grad_(False)
        self.teachers = [dict(teacher) for teacher in teachers]
        self.sizes = learner.embedding.sizes or ()
        outputs = learner.record.get("answer_outputs") or [None] * len(self.sizes)
        self.outputs = [None if chosen is None else torch.tensor(chosen) for chosen in outputs]
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
        return cls(learner, _recorded_teachers(source, learner)), settings

    def place_of(self, record: TeacherRecord) -> int | None:
        """Which of the old teachers a new one is, by the hash of its weights; None if it is none of them."""
        key = _key(record.to_dict())
        if key is None or key not in self.keys or len(self.keys) != len(self.sizes):
            return None
        return self.keys.index(key)

    def records(self, new: Sequence[TeacherRecord]) -> list[Json]:
        """Records of all teachers, old and new, each once."""
        listed = {_key(record.to_dict()): record.to_dict() for record in new}
        old = [listed.get(key) or teacher for key, teacher in zip(self.keys, self.teachers, strict=True)]
        return old + [record.to_dict() for record in new if self._is_new(record)]

    def _is_new(self, record: TeacherRecord) -> bool:
        key = _key(record.to_dict())
        return key is None or key not in self.keys


class ContinuedLayout(SoftLabels):
    """An answer sheet whose first columns are an old learner's; see `SoftLabels`.

    An old teacher that is listed again is asked itself, for its old columns.

    Args:
        elder: The old learner.
        records: The teachers of the pool.
        seed: Seed of the subsets of large heads.
    """

    def __init__(self, elder: PreviousLearner, records: Sequence[TeacherRecord], *, seed: int = 0) -> None:
        super().__init__([record.num_classes for record in records], seed=seed)
        self.elder, self._own_sizes = elder, self.sizes
        old = list(elder.sizes)
        self.sizes, self.width = old, sum(old)
        self.elder_width = self.width
        is_elders = torch.ones(self.width, dtype=torch.bool)
        for teacher, record in enumerate(records):
            place = elder.place_of(record)
            if place is not None and (old[place] == record.num_classes or elder.outputs[place] is not None):
                self.starts[teacher], self.chosen[teacher] = sum(old[:place]), elder.outputs[place]
                is_elders[self.columns(teacher)] = False
            else:
                self.starts[teacher] = self.width
                self.sizes = [*self.sizes, self._own_sizes[teacher]]
                self.width += self._own_sizes[teacher]
        self._elders_columns = is_elders.nonzero().flatten()

    def columns(self, teacher: int) -> slice:
        """Where a teacher's answers stand."""
        return slice(self.starts[teacher], self.starts[teacher] + self._own_sizes[teacher])

    @torch.no_grad()
    def ask(
        self,
        pool: TeacherPool,
        images: Tensor,
        precision: Precision,
        *,
        batch: int = ASKED_AT_ONCE,
        pause: Callable[[], None] = lambda: None,
    ) -> Tensor:
        """Show pictures to every teacher of the pool, and to the old learner for those that are not in it."""
        sheet = super().ask(pool, images, precision, batch=batch, pause=pause)
        learner = self.elder.learner
        if not self.elder_width:
            return sheet
        precision = fitting_precision(learner, precision)
        for first in range(0, len(images), batch):
            pause()
            part = images[first : first + batch].to(learner.device).float() / 255
            with precision.autocast(learner.device):
                answers = learner.raw_answers(precision.layout(part))
            groups = answers.float().cpu().split(list(self.elder.sizes), 1)
            stored = torch.cat([store_logits(group) for group in groups], 1)
            sheet[first : first + batch, self._elders_columns] = stored[:, self._elders_columns]
        return sheet

    def grow(self, projection: nn.Linear) -> nn.Linear:
        """Put the old learner's projection into the first rows of a new one of this sheet's width."""
        old = self.elder.learner.embedding.projection
        if old is not None and self.elder_width:
            with torch.no_grad():
                projection.weight[: self.elder_width] = old.weight
                projection.bias[: self.elder_width] = old.bias if old.bias is not None else 0.0
        return projection


def known_teachers(
    elder: PreviousLearner | None, new: Sequence[TeacherRecord], sheet: SoftLabels, *, without: Sequence[int] = ()
) -> KnownTeachers:
    """The teachers of a learner, old and new, for its record; those of the pool in `without` are left out."""
    outputs: dict[int, Tensor | None] = {}
    if elder is not None:
        outputs = {sum(elder.sizes[:place]): chosen for place, chosen in enumerate(elder.outputs)}
    outputs |= dict(zip(sheet.starts, sheet.chosen, strict=True))
    outputs = {start: chosen for start, chosen in outputs.items() if start not in {sheet.starts[i] for i in without}}
    new = [record for index, record in enumerate(new) if index not in without]
    ordered = [outputs[start] for start in sorted(outputs)]
    teachers = [record.to_dict() for record in new] if elder is None else elder.records(new)
    return KnownTeachers(
        teachers=tuple(teachers),
        answer_outputs=tuple(None if chosen is None else tuple(chosen.tolist()) for chosen in ordered),
        teachers_before=None if elder is None else len(elder.teachers),
    )


def _inherited(wanted: LearnerConfig, recipe: str, learner: MetaLearner) -> LearnerConfig:
    """The old learner's settings where nothing else than the recipe's is asked for."""
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


def _recorded_teachers(source: str, learner: MetaLearner) -> list[Json]:
    """The old teachers; a run on this machine has a record of its own, which hides nothing."""
    own = Path(source).parent / "record.json"
    if Path(source).is_dir() and own.is_file():
        return json.loads(own.read_text(encoding="utf-8")).get("teachers") or []
    return learner.record.get("teachers") or []


def _key(teacher: JsonView) -> tuple[str, tuple[int, ...]] | None:
    """What makes a teacher the same: its weights and the classes chosen of them; None where that is not recorded."""
    weights = (teacher.get("sha256") or {}).get("model.safetensors")
    return None if weights is None else (weights, tuple(teacher.get("classes") or ()))
