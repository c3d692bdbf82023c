"""Rows of accuracy with their intervals, and a report of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


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


@dataclass
class EvaluationReport:
    """All rows, on what they were measured, and what makes them doubtful."""

    rows: list[ResultRow]
    dataset: str
    split: str
    warnings: list[str] = field(default_factory=list)
    seed: int = 0
    pictures: int = 0
    classes: int = 0
    local: bool = False
    """Whether the data set was a file or folder of this computer."""
    fingerprint: str = ""
    """Tells folders of one name apart (`hf_free.publishing.results.fingerprint`); empty for a data set of the Hub."""
    revision: str | None = None
    """Revision of the data set, where one was asked for."""

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON types."""
        return asdict(self)
