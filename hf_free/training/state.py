"""What a run remembers between two steps, besides tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from hf_free.provenance.reading import Json, check_types, object_of
from hf_free.provenance.run_record import Energy


@dataclass
class RunState:
    """What a run has to remember, besides tensors."""

    step: int = 0
    """Outer steps done."""
    chains: int = 1
    """Chains that it does its steps in, see `hf_free.runtime.chains`."""
    processes: int = 1
    """Processes that did the last of them."""
    early_steps: int = 0
    """How many of them while teachers were still being downloaded, see `hf_free.training.warm_up`."""
    seconds: float = 0.0
    """Wall-clock time spent, over all resumptions."""
    energy: Energy = field(default_factory=Energy)
    """What was measured of it, over all resumptions."""
    queries: int = 0
    """What black boxes were asked until the last checkpoint, over all resumptions."""
    kept_tasks: int = 0
    """Recovered tasks kept."""
    pictures: int = 0
    """Recovered pictures kept."""
    accuracy_sum: float = 0.0
    """Sum of the kept tasks' teacher accuracy."""
    diversity_sum: float = 0.0
    """Sum of the kept tasks' within-class diversity."""
    last_score: float = -math.inf
    """Last score of the learner, see `hf_free.training.selection`."""
    best_score: float = -math.inf
    """Best score."""
    best_step: int = 0
    """Its step."""
    best_on: int = 0
    """Version of the pictures that the best score was measured on, see `hf_free.training.selection`."""
    asked: list[int] = field(default_factory=list)
    """Number of pictures that each teacher was asked about, by its place among the learner's answers; empty where
    every teacher was asked about every picture."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Tasks left out, by `reference: reason`."""
    failures: dict[str, int] = field(default_factory=dict)
    """Failures in a row, by the teacher's index."""
    skipped: list[dict[str, str]] = field(default_factory=list)
    """Teachers left out for good, with the reason."""
    excluded: list[int] = field(default_factory=list)
    """Their indices, where they had loaded."""
    gone: list[int] = field(default_factory=list)
    """Indices of teachers that could be loaded at first and then no more; a resumed run tries them again."""

    def to_dict(self) -> Json:
        """The state as plain JSON types, but for infinite scores."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> RunState:
        """Read a state back.

        Raises:
            TypeError: what no state has, or a value of another type.
        """
        check_types(cls, {key: value for key, value in values.items() if key != "energy"})
        return cls(**{**values, "energy": Energy.from_dict(object_of(values.get("energy")))})  # type: ignore[arg-type]
