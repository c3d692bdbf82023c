"""Rows of accuracy with their intervals, and a report of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from hf_free.provenance.reading import Json, flag_of, list_of, number_of, object_of, text_of, texts_of, whole_of


@dataclass(frozen=True)
class ResultRow:
    """One line of the table."""

    method: str
    """What was measured."""
    n_way: int
    """Classes per episode."""
    k_shot: int
    """Support pictures per class."""
    n_query: int
    """Query pictures per class."""
    episodes: int
    """Number of episodes."""
    accuracy: float | None
    """Mean accuracy in percent; None where it could not be measured, `note` says why."""
    interval: float | None
    """Half-width of the 95 % interval in percentage points."""
    inductive: bool
    """Whether each query is answered by itself; False: all queries of an episode are seen together."""
    seconds: float
    """Time for this row alone, features and scoring."""
    scoring_seconds: float
    """Of these the time after the features were there; all of them where adaptation changes the network."""
    note: str = ""
    """What a reader should know."""
    ahead: float | None = None
    """Accuracy of the learner's own row less this one's, in percentage points, on the same episodes; None for rows
    that were not measured beside it."""
    ahead_interval: float | None = None
    """Half-width of its 95 % interval, over the differences episode by episode."""

    @property
    def seen_together(self) -> str:
        """What readers are told of a row that is not inductive; the same of all whose name says it, so said once."""
        said = "all queries of an episode are seen together"
        if self.inductive:
            return ""
        return f"Transductive: {said}" if "(transductive)" in self.method else f"{self.method}: transductive, {said}"

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> ResultRow:
        """Read a row of a record; numbers that are not finite are none."""
        return cls(
            method=text_of(values.get("method")),
            n_way=whole_of(values.get("n_way")) or 0,
            k_shot=whole_of(values.get("k_shot")) or 0,
            n_query=whole_of(values.get("n_query")) or 0,
            episodes=whole_of(values.get("episodes")) or 0,
            accuracy=number_of(values.get("accuracy")),
            interval=number_of(values.get("interval")),
            inductive=bool(values.get("inductive", True)),
            seconds=number_of(values.get("seconds")) or 0.0,
            scoring_seconds=number_of(values.get("scoring_seconds")) or 0.0,
            note=text_of(values.get("note")),
            ahead=number_of(values.get("ahead")),
            ahead_interval=number_of(values.get("ahead_interval")),
        )


@dataclass
class EvaluationReport:
    """All rows, on what they were measured, and what makes them doubtful."""

    rows: list[ResultRow]
    dataset: str
    split: str
    warnings: list[str] = field(default_factory=list)
    seed: int | None = 0
    pictures: int = 0
    classes: int = 0
    local: bool | None = False
    """Whether the data set was a file or folder of this computer; None where an old record does not say."""
    fingerprint: str = ""
    """Tells folders of one name apart (`hf_free.publishing.results.fingerprint`); empty for a data set of the Hub."""
    revision: str | None = None
    """Revision of the data set, where one was asked for."""

    @property
    def place(self) -> str:
        """What it was measured on, in words."""
        parts = [self.dataset or "pictures"]
        parts += [f"{key} {value}" for key, value in (("split", self.split), ("revision", self.revision)) if value]
        return ", ".join(parts)

    def to_dict(self) -> Json:
        """The report as plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> EvaluationReport:
        """Read a report of a record; what an old one lacks is not known."""
        return cls(
            rows=[ResultRow.from_dict(object_of(row)) for row in list_of(values.get("rows"))],
            dataset=text_of(values.get("dataset")),
            split=text_of(values.get("split")),
            warnings=list(texts_of(values.get("warnings"))),
            seed=whole_of(values.get("seed")),
            pictures=whole_of(values.get("pictures")) or 0,
            classes=whole_of(values.get("classes")) or 0,
            local=flag_of(values.get("local")),
            fingerprint=text_of(values.get("fingerprint")),
            revision=text_of(values.get("revision")) or None,
        )
