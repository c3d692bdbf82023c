"""Was a picture among those that a network was trained on? What an attack on that question reaches, by class.

Every figure is computed within a class, since classes differ in how far apart their pictures lie, and then averaged
over classes; intervals come from classes drawn anew, since pictures of a class share their neighbors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

RESAMPLES = 10_000
FALSE_ALARMS = 0.01
"""Share of pictures that are wrongly called members, at which attacks are compared (Carlini et al., "Membership
Inference Attacks From First Principles", 2022: an average says little about those who are found for certain)."""


@dataclass(frozen=True)
class Estimate:
    """A mean over classes with its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"

    @property
    def says_nothing(self) -> bool:
        """Whether chance, 0.5, lies within the interval."""
        return self.low <= 0.5 <= self.high


def random_half(labels: Tensor, generator: torch.Generator) -> Tensor:
    """A random half of each class, as (N,) bool; of an odd number the one more is outside."""
    inside = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        places = torch.nonzero(labels == label).flatten()
        inside[places[torch.randperm(len(places), generator=generator)[: len(places) // 2]]] = True
    return inside


def nearest(points: Tensor, others: Tensor) -> Tensor:
    """Euclidean distance of each point (N, D) to the nearest of the others (M, D)."""
    return torch.cdist(points.double(), others.double()).min(1).values


def share_nearer(pictures: Tensor, members: Tensor, strangers: Tensor) -> float:
    """Share of pictures (N, D) whose nearest picture is a member's, not a stranger's; a tie counts half.

    With as many members as strangers, pictures that know nothing of individuals have 0.5.

    Raises:
        ValueError: unequal numbers, with which chance is not 0.5.
    """
    if len(members) != len(strangers):
        raise ValueError(f"{len(members)} members, {len(strangers)} strangers: equal numbers are wanted")
    to_member, to_stranger = nearest(pictures, members), nearest(pictures, strangers)
    return ((to_member < to_stranger).double() + (to_member == to_stranger).double() / 2).mean().item()


def auc(members: Tensor, strangers: Tensor) -> float:
    """Share of pairs in which the member's score is the higher one; a tie counts half (Mann and Whitney's U)."""
    above = (members[:, None] > strangers).double() + (members[:, None] == strangers).double() / 2
    return above.mean().item()


def found_at(members: Tensor, strangers: Tensor, false_alarms: float = FALSE_ALARMS) -> float:
    """Share of members whose score is above that of all strangers but the given share of them."""
    allowed = int(false_alarms * len(strangers))
    threshold = strangers.sort(descending=True).values[allowed]
    return (members > threshold).double().mean().item()


def over_classes(values: Sequence[float], seed: int = 0) -> Estimate:
    """The mean of one value per class, and the middle 95 % of that of classes drawn anew."""
    found = torch.tensor(values, dtype=torch.double)
    generator = torch.Generator().manual_seed(seed)
    drawn = found[torch.randint(len(found), (RESAMPLES, len(found)), generator=generator)].mean(1)
    low, high = drawn.quantile(torch.tensor([0.025, 0.975], dtype=torch.double)).tolist()
    return Estimate(found.mean().item(), low, high)
