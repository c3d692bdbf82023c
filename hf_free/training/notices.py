"""What to know beforehand: licenses, privacy, limits of a method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hf_free.config.init_from import InitFrom
from hf_free.data.images import WRITING_VIEWS
from hf_free.data.procedural.mixture import is_two_toned
from hf_free.evaluation.evaluate import plain_name
from hf_free.hub.licenses import is_non_commercial, is_unclear
from hf_free.metalearning.continual import PreviousLearner
from hf_free.provenance.forecast import forecast
from hf_free.provenance.teacher_record import TeacherRecord
from hf_free.runtime.text import listed
from hf_free.teachers.label_names import is_placeholder

if TYPE_CHECKING:
    from hf_free.config.sections import (
        BellConfig,
        FiveConfig,
        HubConfig,
        LearnerConfig,
        QueriesConfig,
        TrainerConfig,
    )


def license_notes(teachers: Sequence[tuple[str, str | None]]) -> list[str]:
    """What to know about teachers' licenses before a learner is made of them, one line per kind.

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


def twice_notes(records: Sequence[TeacherRecord]) -> list[str]:
    """Which teachers are the same files under two names, or were named twice: what they say counts twice."""
    found: dict[object, list[str]] = {}
    for record in records:
        if record.sha256:
            found.setdefault((tuple(sorted(record.sha256.items())), record.classes), []).append(record.reference)
    return [
        f"the same teacher more than once: {listed(names)}; what it says counts as often"
        for names in found.values()
        if len(names) > 1
    ]


def start_notes(
    queries: QueriesConfig, records: Sequence[TeacherRecord], classes: Sequence[str], *, has_tokens: bool
) -> list[str]:
    """What a run is given and has no use for, and a validation set of classes that its teachers know.

    Args:
        queries: Its limits for black boxes.
        records: Its teachers.
        classes: The names of the validation set's classes.
        has_tokens: Whether tokens of black boxes are given.
    """
    notes = []
    if (has_tokens or queries.budget is not None) and not any(record.answers_only for record in records):
        notes.append("no teacher is a black box: the query budget and the endpoints' tokens are of no use")
    names = (name for record in records for name in record.label_names or ())
    known = {plain_name(name) for name in names if not is_placeholder(name)}
    if shared := [name for name in classes if plain_name(name) in known]:
        notes.append(
            f"{len(shared)} of {len(classes)} classes of the validation set are classes of the teachers "
            f"({listed(shared)}): it should be of others"
        )
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


def notes_on_writing(views: Sequence[str], records: Sequence[TeacherRecord]) -> list[str]:
    """That pictures are mirrored although all teachers seem to know writing, by their mean and deviation."""
    if "flip" not in views or not records or not all(is_two_toned(record.mean, record.std) for record in records):
        return []
    return [
        "the teachers' mean and deviation are those of writing, and pictures are mirrored: if it is writing, "
        f"--set '{WRITING_VIEWS}' five.flip=false is better"
    ]


def notes_on_teachers(hub: HubConfig, records: list[TeacherRecord]) -> list[str]:
    """Licenses, privacy, and what the loader had to say."""
    notes = [f"{record.reference}: {text}" for record in records for text in record.notes]
    notes += twice_notes(records)
    notes += license_notes([(record.reference, record.license) for record in records])
    return notes + privacy_notes(records, hub)


def notes_on_pooling(records: Sequence[TeacherRecord], method: str) -> list[str]:
    """Whether a pooled learner of these teachers is likely to be more accurate than the one that is trained."""
    guess = forecast([record.architecture for record in records])
    if guess.likely != "pooled" or method != "default" or any(record.answers_only for record in records):
        return []
    return [
        f"{guess.text}. It is made in minutes and costs one pass of each teacher per picture: hf-free pool; hf-free "
        "distill makes one network of it"
    ]


def notes_on_distillation(five: FiveConfig, bell: BellConfig, records: list[TeacherRecord]) -> list[str]:
    """Of ways to learn by episodes: teachers with more classes than the one head has, and too few classes in all."""
    if bell.distills:
        return []
    n_way, most, notes = bell.n_way, five.max_classes, []
    classes = _classes_in_all(records, match_names=bell.match_label_names)
    if classes < n_way:
        notes.append(
            f"no episodes are replayed: the teachers know {classes} classes in all, fewer than bell.n_way={n_way}; "
            f"--set bell.n_way={classes}, or more --models"
        )
    large = [record.reference for record in records if min(record.num_classes, most) > n_way]
    if bell.objective == "episodes" or not large:
        return notes
    way_out = (
        f"their pictures are replayed only (--set five.max_classes={n_way} distills tasks of so many classes; "
        "--method default has no such limit)"
    )
    if len(large) == len(records):
        notes.append(f"nothing is distilled at all: every teacher has more than bell.n_way={n_way} classes; {way_out}")
    else:
        notes.append(
            f"more than bell.n_way={n_way} classes: {listed(large)}; nothing is distilled from them, {way_out}"
        )
    return notes


def _classes_in_all(records: Sequence[TeacherRecord], *, match_names: bool) -> int:
    """Classes of all teachers; those of one name are one where names are to be trusted."""
    names = [name for record in records for name in record.label_names or () if not is_placeholder(name)]
    matched = len(names) - len(set(names)) if match_names else 0
    return sum(record.num_classes for record in records) - matched


def notes_on_run(learner: LearnerConfig, trainer: TrainerConfig) -> list[str]:
    """Notes on a run's settings: not data-free, endless, nothing but warm-up."""
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
