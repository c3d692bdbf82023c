"""What a run says of itself in its learner's record: written by the run, read by cards and whoever continues it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from hf_free.provenance.reading import Json, flag_of, list_of, number_of, object_of, text_of, texts_of, whole_of
from hf_free.provenance.recorded_teacher import LeftOut, RecordedTeacher


@dataclass(frozen=True, kw_only=True)
class MethodFacts:
    """What a learner was trained with: a published system."""

    name: str = ""
    title: str = ""
    """What it is, in a line."""
    paper: str = ""
    """Authors, title, venue and year."""
    url: str = ""
    """Where the paper lies."""
    departures: tuple[str, ...] = ()
    """How it departs from its authors' code, and why."""

    def to_dict(self) -> Json:
        """The facts as plain JSON types."""
        return {**asdict(self), "departures": list(self.departures)}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> MethodFacts:
        """Read the facts of a record; an old one has none."""
        texts = {key: text_of(values.get(key)) for key in ("name", "title", "paper", "url")}
        return cls(**texts, departures=texts_of(values.get("departures")))


@dataclass(frozen=True, kw_only=True)
class Recovered:
    """How much was recovered, and how good it is; None where that is not recorded."""

    tasks: int | None = None
    images: int | None = None
    teacher_accuracy: float | None = None
    """Share of the images that their teacher recognizes, mean over tasks."""
    diversity: float | None = None
    """How much the images of a class differ, mean over tasks; see `hf_free.inversion.task.Health`."""
    rounds: int | None = None
    """How often each teacher was inverted, where that was said beforehand."""

    def to_dict(self) -> Json:
        """The numbers as plain JSON types."""
        return {key: value for key, value in asdict(self).items() if value is not None or key != "rounds"}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Recovered:
        """Read the numbers of a record."""
        return cls(
            tasks=whole_of(values.get("tasks")),
            images=whole_of(values.get("images")),
            teacher_accuracy=number_of(values.get("teacher_accuracy")),
            diversity=number_of(values.get("diversity")),
            rounds=whole_of(values.get("rounds")),
        )


@dataclass(frozen=True)
class Energy:
    """What a run took, as far as it was measured."""

    kwh: float = 0.0
    seconds: float = 0.0
    """How much of the run's time that is of."""
    how: str = ""
    """What measured or estimated it, and of what."""

    def __add__(self, later: Energy) -> Energy:
        """Both together, as of a run that was resumed."""
        return Energy(self.kwh + later.kwh, self.seconds + later.seconds, later.how or self.how)

    def __bool__(self) -> bool:
        """Whether anything was measured."""
        return self.seconds > 0

    def to_dict(self) -> Json:
        """The entry of a record."""
        return {**asdict(self), "kwh": float(f"{self.kwh:.6g}"), "seconds": round(self.seconds, 1)}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Energy:
        """Read the entry of a record; nothing where there is none."""
        kwh, seconds = number_of(values.get("kwh")), number_of(values.get("seconds"))
        return cls() if kwh is None or seconds is None else cls(kwh, seconds, text_of(values.get("how")))


@dataclass(frozen=True, kw_only=True)
class Training:
    """How long a run took, and on what; None or empty where that is not recorded."""

    minutes: float | None = None
    steps: int | None = None
    steps_while_downloading: int | None = None
    best_step: int | None = None
    chosen_on: str = ""
    """What the published state was chosen on."""
    device: str = ""
    threads: int | None = None
    mixed_precision: str = ""
    """Autocast type of the run."""
    learner_precision: str = ""
    """That of the learner, where it is another one."""
    queries: int | None = None
    """Pictures that black boxes were asked about; None: there are none."""
    query_budget: int | None = None
    """How many they might have been asked about; None: any number."""
    energy: Energy = Energy()

    def to_dict(self) -> Json:
        """The facts as plain JSON types; energy only where it was measured."""
        facts = {key: value for key, value in asdict(self).items() if key != "energy"}
        return {**facts, "energy": self.energy.to_dict()} if self.energy else facts

    def known(self) -> Json:
        """Those of the facts that are recorded."""
        return {key: value for key, value in self.to_dict().items() if value not in (None, "")}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Training:
        """Read the facts of a record."""
        return cls(
            minutes=number_of(values.get("minutes")),
            steps=whole_of(values.get("steps")),
            steps_while_downloading=whole_of(values.get("steps_while_downloading")),
            best_step=whole_of(values.get("best_step")),
            chosen_on=text_of(values.get("chosen_on")),
            device=text_of(values.get("device")),
            threads=whole_of(values.get("threads")),
            mixed_precision=text_of(values.get("mixed_precision")),
            learner_precision=text_of(values.get("learner_precision")),
            queries=whole_of(values.get("queries")),
            query_budget=whole_of(values.get("query_budget")),
            energy=Energy.from_dict(object_of(values.get("energy"))),
        )


@dataclass(frozen=True, kw_only=True)
class Imitation:
    """How a network learned what a pooled learner says (`hf_free.training.distill`)."""

    pictures: int | None = None
    """Drawn pictures that the teachers were asked about."""
    agreement: float | None = None
    """RV coefficient of the two embeddings on new drawn pictures, 0 to 1."""
    loss: float | None = None
    """The last loss: 1 - cosine of what is predicted and what the teachers say."""
    flops: int | None = None
    """Operations of the network for one view of a picture."""
    pooled_flops: int | None = None
    """Operations of all teachers for it."""
    parameters: int | None = None
    """Of the network."""
    pooled_parameters: int | None = None
    """Of all teachers."""
    started_from: int | None = None
    """Number of the teacher, from 0, whose weights the network started with; None for an untrained network."""
    as_it_was: bool = False
    """Whether it has that teacher's weights and features as they were, which agreed more with the pooled learner than
    what it had learned."""

    def to_dict(self) -> Json:
        """The entry of a record."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Imitation:
        """Read the entry of a record."""
        return cls(
            pictures=whole_of(values.get("pictures")),
            agreement=number_of(values.get("agreement")),
            loss=number_of(values.get("loss")),
            flops=whole_of(values.get("flops")),
            pooled_flops=whole_of(values.get("pooled_flops")),
            parameters=whole_of(values.get("parameters")),
            pooled_parameters=whole_of(values.get("pooled_parameters")),
            started_from=whole_of(values.get("started_from")),
            as_it_was=bool(flag_of(values.get("as_it_was"))),
        )


@dataclass(frozen=True, kw_only=True)
class KnownTeachers:
    """The teachers of a learner, old and new, in the order of its answers."""

    teachers: tuple[RecordedTeacher, ...]
    """Their entries; those of an earlier learner with every key they came with."""
    answer_outputs: tuple[tuple[int, ...] | None, ...]
    """Which outputs of each teacher the learner predicts; None: all of them."""
    teachers_before: int | None = None
    """Of a learner that was continued, how many of `teachers`, the first ones, it had."""

    def to_dict(self) -> Json:
        """The keys of a record."""
        outputs = [None if chosen is None else list(chosen) for chosen in self.answer_outputs]
        before = {} if self.teachers_before is None else {"teachers_before": self.teachers_before}
        return {"teachers": [one.to_dict() for one in self.teachers], "answer_outputs": outputs, **before}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> KnownTeachers:
        """Read the keys of a record."""
        chosen = list_of(values.get("answer_outputs"))
        return cls(
            teachers=tuple(map(RecordedTeacher.from_dict, map(object_of, list_of(values.get("teachers"))))),
            answer_outputs=tuple(None if outputs is None else _wholes(outputs) for outputs in chosen),
            teachers_before=whole_of(values.get("teachers_before")),
        )


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """The record that a run leaves, before its learner adds how it is rebuilt (`hf_free.learner.persistence`)."""

    config: Json
    """The run's configuration, as `FreeConfig.to_dict` gives it."""
    known: KnownTeachers
    skipped: Sequence[LeftOut] = ()
    """Teachers left out of something, each with the reason."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Reason -> number of tasks."""
    licenses: Mapping[str, int] = field(default_factory=dict)
    """License -> number of teachers."""
    data_free: bool = True
    """Whether no real image was used, by the run or by whoever trained the weights that it started from."""
    init_from: str = ""
    """Weights that the run started from; empty for none."""
    method: MethodFacts = field(default_factory=MethodFacts)
    recovered: Recovered = field(default_factory=Recovered)
    training: Training = field(default_factory=Training)
    versions: Mapping[str, str] = field(default_factory=dict)
    """Library -> version."""

    def to_dict(self) -> Json:
        """The keys of an `hf_free` block, in the order in which they are written."""
        return {
            "config": dict(self.config),
            **self.known.to_dict(),
            "skipped": [one.to_dict() for one in self.skipped],
            "left_out": self.left_out,
            "licenses": dict(self.licenses),
            "data_free": self.data_free,
            "method": self.method.to_dict(),
            "results": [],
            "recovered": self.recovered.to_dict(),
            "training": self.training.to_dict(),
            "versions": dict(self.versions),
            **({"init_from": self.init_from} if self.init_from else {}),
        }


@dataclass(frozen=True, kw_only=True)
class PoolRecord:
    """The record of a pooled learner, which nothing was trained for."""

    config: Json
    """Teachers, seed, and the sections `learner`, `five`, `memory` and `hub`."""
    teachers: Sequence[RecordedTeacher]
    skipped: Sequence[LeftOut]
    licenses: Mapping[str, int]
    """License -> number of teachers."""
    recovered: Recovered
    training: Training
    versions: Mapping[str, str]
    """Library -> version."""
    data_free: bool = True
    """Whether no real image was used."""

    def to_dict(self) -> Json:
        """The keys of an `hf_free` block, in the order in which they are written."""
        return {
            "config": dict(self.config),
            "teachers": [one.to_dict() for one in self.teachers],
            "skipped": [one.to_dict() for one in self.skipped],
            "licenses": dict(self.licenses),
            "data_free": self.data_free,
            "results": [],
            "recovered": self.recovered.to_dict(),
            "training": self.training.known(),
            "versions": dict(self.versions),
        }


def _wholes(values: object) -> tuple[int, ...]:
    """The whole numbers of a list."""
    return tuple(number for number in map(whole_of, list_of(values)) if number is not None)
