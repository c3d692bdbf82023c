"""What to know beforehand: licenses, privacy, limits of a method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hf_free.config.init_from import InitFrom
from hf_free.hub.licenses import is_non_commercial, is_unclear
from hf_free.metalearning.continual import PreviousLearner
from hf_free.provenance.teacher_record import TeacherRecord
from hf_free.runtime.text import listed

if TYPE_CHECKING:
    from hf_free.config.sections import BellConfig, FiveConfig, HubConfig, LearnerConfig, TrainerConfig


def license_notes(teachers: Sequence[tuple[str, str | None]]) -> list[str]:
    """What there is to know of teachers' licenses before a learner is made of them, a line a kind.

    Args:
        teachers: Name and license's identifier of each; None where no license is stated.
    """
    non_commercial = [f"{name} ({stated})" for name, stated in teachers if is_non_commercial(stated)]
    unclear = [
        f"{name} ({stated})" for name, stated in teachers if is_unclear(stated) and not is_non_commercial(stated)
    ]
    unlicensed = [name for name, stated in teachers if not stated]
    notes = []
    if non_commercial:
        notes.append(f"non-commercial license: {listed(non_commercial)}; a learner made of them may be bound by it")
    if unclear:
        notes.append(f"license unclear: {listed(unclear)}; read it before you publish a learner")
    if unlicensed:
        notes.append(f"no license stated: {listed(unlicensed)}; ask the authors before you publish a learner")
    return notes


def privacy_notes(records: Sequence[TeacherRecord], hub: HubConfig) -> list[str]:
    """Which teachers the card will not name, and whether it will show their pictures all the same."""
    hidden = [record.reference for record in records if record.is_hidden]
    notes = []
    if hidden and not hub.name_private_teachers:
        notes.append(f"private or gated: {listed(hidden)}; not named in the card (see hub.name_private_teachers)")
    if hidden and hub.card_images:
        notes.append("the card will show pictures recovered from private or gated teachers (--card-images)")
    return notes


def notes_on_teachers(hub: HubConfig, records: list[TeacherRecord]) -> list[str]:
    """Licenses, privacy, and what the loader had to say."""
    notes = [f"{record.reference}: {text}" for record in records for text in record.notes]
    notes += license_notes([(record.reference, record.license) for record in records])
    return notes + privacy_notes(records, hub)


FEW_TEACHERS = 30
"""Up to so many, pooling was the better choice in all sets that were measured (docs/guides/pooled.md)."""


def notes_on_pooling(records: Sequence[TeacherRecord], method: str) -> list[str]:
    """Whether a pooled learner of these teachers is likely to be more accurate, by what was measured of other sets.

    Few teachers, or teachers of several architectures: in five of five sets the pooled learner was above the one that
    `train` makes, by 3.5 to 12.2 points at 1 shot and by 2.1 to 9.5 at 5 shots. A hundred small teachers of one
    architecture: 0.8 below at 1 shot, 0.6 above at 5 (docs/guides/pooled.md).
    """
    is_few = len(records) <= FEW_TEACHERS or len({record.architecture for record in records}) > 1
    if not is_few or method != "default" or any(record.answers_only for record in records):
        return []
    return [
        "a pooled learner of these teachers is likely to be more accurate: in 5 of 5 measured sets of few or unlike "
        "teachers it was, by 2 to 12 points. It is made in minutes and costs one pass of each teacher per picture: "
        "hf-free pool; hf-free distill makes one network of it"
    ]


def notes_on_distillation(five: FiveConfig, bell: BellConfig, records: list[TeacherRecord]) -> list[str]:
    """Teachers whose tasks have more classes than the one head that `align` and `regularize` train."""
    n_way, most = bell.n_way, five.max_classes
    large = [record.reference for record in records if min(record.num_classes, most) > n_way]
    if bell.objective not in ("align", "regularize", "bilevel") or not large:
        return []
    way_out = (
        f"their pictures are replayed only (--set five.max_classes={n_way} distils tasks of so many classes; "
        "--method default has no such limit)"
    )
    if len(large) == len(records):
        return [f"nothing is distilled at all: every teacher has more than bell.n_way={n_way} classes; {way_out}"]
    return [f"more than bell.n_way={n_way} classes: {listed(large)}; nothing is distilled from them, {way_out}"]


def notes_on_run(learner: LearnerConfig, trainer: TrainerConfig) -> list[str]:
    """What a run's settings make of it: not data-free, endless, all warm-up."""
    notes, start = [], learner.init_from
    if start is not None and not InitFrom.parse(start).is_learner:
        notes.append(f"not data-free: the learner starts from {start}, weights trained on real pictures")
    if trainer.steps is None and trainer.max_minutes is None:
        notes.append("nothing ends this run but Ctrl-C: give --steps or --max-minutes")
    if trainer.steps is not None and trainer.steps <= trainer.warmup_steps:
        notes.append(f"all {trainer.steps} steps are warm-up (trainer.warmup_steps): no task would be recovered")
    return notes


def notes_on_previous_learner(elder: PreviousLearner | None, records: Sequence[TeacherRecord]) -> list[str]:
    """Which teachers the learner to continue has learned from already."""
    known = [record.reference for record in records if elder is not None and elder.place_of(record) is not None]
    return [f"the learner has learned from {listed(known)} already: asked again, nothing is added"] if known else []
