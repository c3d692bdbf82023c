"""What a learner's record says in a few lines: rows of a report's overview, and of a notebook's cell."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hf_free.provenance.learner_record import LearnerRecord
from hf_free.provenance.recorded_teacher import RecordedTeacher
from hf_free.provenance.run_record import Energy
from hf_free.publishing.results import is_own_row
from hf_free.runtime.text import count_text

Fact = tuple[str, str]
"""A name and a value."""


def record_facts(record: LearnerRecord) -> list[Fact]:
    """What a learner is, what it was made from and what that cost; what is not recorded is left out."""
    readers: tuple[tuple[str, Callable[[LearnerRecord], str]], ...] = (
        ("Kind", lambda record: "pooled: the teachers themselves" if record.is_pooled else "one network"),
        ("Method", lambda record: str(record.config.get("method") or "")),
        ("Backbone", lambda record: record.learner.backbone or ""),
        ("Input", _input),
        ("Adapts by", lambda record: record.learner.head or ""),
        ("Teachers", lambda record: _number(len(record.teachers) or None)),
        ("Parameters of all teachers", lambda record: _parameters(record.teachers)),
        ("Real pictures used in training", _real_pictures),
        ("Pictures recovered and kept", lambda record: _number(record.recovered.images)),
        ("Recovered tasks", lambda record: _number(record.recovered.tasks)),
        ("Recognized by their teacher", lambda record: _percent(record.recovered.teacher_accuracy)),
        ("Time", lambda record: _minutes(record.training.minutes)),
        ("Energy", lambda record: energy_text(record.training.energy)),
        ("Steps", lambda record: _number(record.training.steps)),
        ("Published state", _chosen),
        ("Device", _device),
        ("Precision", lambda record: record.training.mixed_precision),
        ("Seed", lambda record: _number(record.config.get("seed"))),
        ("Versions", lambda record: ", ".join(f"{name} {number}" for name, number in record.versions.items())),
    )
    facts = ((name, read(record)) for name, read in readers)
    return [(name, value) for name, value in facts if value]


def result_facts(record: LearnerRecord) -> list[Fact]:
    """The learner's own accuracies, a row per data set."""
    facts = []
    for report in record.results:
        own = [row for row in report.rows if is_own_row(row.method) and row.accuracy is not None]
        said = [
            f"{row.n_way}-way {row.k_shot}-shot {row.accuracy:.1f}"
            + ("" if row.interval is None else f" ± {row.interval:.1f}")
            + (" %" if row.inductive else " % (transductive)")
            for row in own
        ]
        facts += [(f"Accuracy on {report.dataset or 'pictures'}", ", ".join(said))] if said else []
    return facts


def energy_text(energy: Energy) -> str:
    """What was measured, of how long, and by what; empty where nothing was."""
    if not energy:
        return ""
    amount = f"{energy.kwh:.3g} kWh" if energy.kwh >= 0.1 else f"{1000 * energy.kwh:.3g} Wh"
    return f"{amount} in {energy.seconds / 60:.3g} minutes ({energy.how})"


def _input(record: LearnerRecord) -> str:
    learner = record.learner
    return "" if learner.image_size is None else f"{learner.channels}×{learner.image_size}×{learner.image_size}"


def _real_pictures(record: LearnerRecord) -> str:
    seen = "teachers were asked about some, without labels" if record.has_seen_pictures else ""
    started = "it started from weights trained on pictures" if record.init_from or not seen else ""
    return {True: "none", False: f"yes: {' and '.join(filter(None, (started, seen)))}", None: ""}[record.data_free]


def _chosen(record: LearnerRecord) -> str:
    training = record.training
    if training.best_step is None:
        return ""
    return f"step {training.best_step}" + (f", chosen on {training.chosen_on}" if training.chosen_on else "")


def _device(record: LearnerRecord) -> str:
    training = record.training
    threads = f"{training.threads} thread{'' if training.threads == 1 else 's'}" if training.threads else ""
    return ", ".join(filter(None, (training.device, threads)))


def _parameters(teachers: Iterable[RecordedTeacher]) -> str:
    known = [teacher.parameters for teacher in teachers if teacher.parameters is not None]
    return count_text(sum(known)) if known else ""


def _number(value: object) -> str:
    return "" if value is None else str(value)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _minutes(value: float | None) -> str:
    return "" if value is None else f"{value:g} minutes"
