"""What of the literature's tables a matrix reproduces, and what stands in the way where it does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from benchmark.matrix import read_experiment

NOT_TO_BE_HAD = (
    "Published accuracies of PURER, BiDf-MKD and TGR were not to be had when this list was made: nothing of their "
    "tables is claimed here."
)


@dataclass(frozen=True)
class Published:
    """An accuracy of the literature: 5-way, test classes, percent."""

    work: str
    methods: tuple[str, ...]
    """As in `--method`: what of ours it is compared with."""
    scenario: str
    data: tuple[str, ...]
    """Data sets; of several their mean."""
    shot: int
    accuracy: float
    teachers: int
    source: str


@dataclass(frozen=True)
class Ours:
    """A row of a matrix, measured."""

    method: str
    row: str
    scenario: str
    data: tuple[str, ...]
    shot: int
    accuracy: float
    """Mean over the data sets, percent."""
    interval: float
    """Half-width of its 95 % interval."""
    teachers: int
    split: str
    episodes: int
    steps: int
    published_steps: int | None
    """Steps of the method as published; None: it has no number of its own."""
    own_settings: int
    """Settings in which it differs from the method."""


@dataclass(frozen=True)
class Verdict:
    """A published accuracy beside ours."""

    published: Published
    ours: Ours | None
    differs: tuple[str, ...]
    """Why the two cannot be compared, if anything."""

    @property
    def words(self) -> str:
        """Whether it is reproduced."""
        if self.ours is None:
            return "not run"
        if self.differs:
            return f"not comparable: {'; '.join(self.differs)}"
        gap = self.ours.accuracy - self.published.accuracy
        return "reproduced" if abs(gap) <= self.ours.interval else f"not reproduced: {gap:+.1f} points"


def published() -> list[Published]:
    """All that is known."""
    return [
        Published(**{**entry, "methods": tuple(entry["methods"]), "data": tuple(entry["data"])})
        for entry in read_experiment("literature")
    ]


def verdicts(known: Sequence[Published], found: Sequence[Ours]) -> list[Verdict]:
    """Every published accuracy with each of our rows of its methods, or with none."""
    judged = []
    for one in known:
        same = [
            ours
            for ours in found
            if (ours.method in one.methods and ours.scenario == one.scenario and set(ours.data) == set(one.data))
            and ours.shot == one.shot
        ]
        judged += [Verdict(one, ours, _differences(one, ours)) for ours in same] or [Verdict(one, None, ())]
    return judged


def over_data(values: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Mean of accuracies of several data sets, and its interval; the data sets are independent."""
    return mean(value for value, _ in values), sum(half**2 for _, half in values) ** 0.5 / len(values)


def _differences(known: Published, ours: Ours) -> tuple[str, ...]:
    found = list[str]()
    if ours.split != "test":
        found.append(f"{ours.split} classes, not test classes")
    if ours.teachers != known.teachers:
        found.append(f"{ours.teachers} of {known.teachers} teachers")
    if ours.published_steps and ours.steps < ours.published_steps:
        found.append(f"{ours.steps:,} of {ours.published_steps:,} steps")
    if ours.episodes < 600:
        found.append(f"{ours.episodes} of 600 episodes")
    if ours.own_settings:
        found.append(f"settings that are not the method's: {ours.own_settings}")
    return tuple(found)
