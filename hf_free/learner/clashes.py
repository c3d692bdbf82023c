"""Which classes of different teachers are one and the same: by their names, or by what the teachers answer.

One class under two labels cannot be told apart, so a cross-task episode must not hold both. Where names may be
trusted, classes of one name are merged: one class, with the pictures that all its teachers gave (the pool of FREE's
released code keeps absolute class ids). Without names the teachers are asked: two classes are taken for one where
their logits rise and fall together over many pictures, whatever the pictures show; they are kept apart, not merged.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_free.learner.distill import AnswerSheet, GroupedCentre
from hf_free.memory import ClassKey

CLASH = 0.35
"""Correlation from which on two classes are taken for one: on the 100 CIFAR-FS teachers that finds 86 % of the true
pairs and, beside them, classes that look alike (docs/experiments.md); leaving out too many costs little."""

LEAST_PICTURES, MOST_PICTURES = 100, 2_000
"""Pictures to ask about: with fewer, a correlation of unrelated classes reaches CLASH by chance (its standard
deviation is 1 / sqrt(N)); more than 2,000 change nothing."""


def clash_scores(answers: Tensor, sizes: Sequence[int]) -> Tensor:
    """Correlation over pictures of every two classes' logits, each teacher's logits centred within each picture.

    Args:
        answers: (N, A) logits of all teachers side by side; NaN where a teacher gave no answer.
        sizes: Number of answers of each teacher, A in all.

    Returns:
        (A, A), symmetric, in [-1, 1]; 0 for a class whose logit never moves.
    """
    known = ~answers.isnan()
    centred = GroupedCentre(sizes).to(answers.device)(answers.float().nan_to_num()) * known
    centred = (centred - centred.sum(0) / known.sum(0).clamp_min(1)) * known
    directions = F.normalize(centred, dim=0, eps=1e-6)
    scores = directions.T @ directions
    return (scores + scores.T) / 2  # a matrix product need not round symmetrically


def find_clashes(
    keys: Sequence[ClassKey],
    names: Sequence[str | None],
    answers: Tensor | None = None,
    sheet: AnswerSheet | None = None,
) -> Tensor:
    """Which classes must not meet in an episode.

    Args:
        keys: The classes.
        names: Name of each class, None where it has none or names are not to be trusted.
        answers: (N, A) the teachers' logits about any pictures, for the classes without a name; None asks nobody.
        sheet: Where whose answers stand.

    Returns:
        (C, C) bool, symmetric. Two classes of one teacher never clash; where both have names, the names decide.
    """
    count = len(keys)
    clash = torch.zeros(count, count, dtype=torch.bool)
    if answers is not None and sheet is not None and len(answers) >= LEAST_PICTURES:
        places = torch.tensor([_column(key, sheet) for key in keys])
        known = places >= 0
        scores = clash_scores(answers[:: -(-len(answers) // MOST_PICTURES)], sheet.sizes).cpu()
        clash = (scores[places.clamp_min(0)][:, places.clamp_min(0)] >= CLASH) & known[:, None] & known
    spelled = {name: number for number, name in enumerate(dict.fromkeys(names))}
    numbers = torch.tensor([-1 if name is None else spelled[name] for name in names])
    both_named = (numbers[:, None] >= 0) & (numbers >= 0)
    clash = torch.where(both_named, numbers[:, None] == numbers, clash)
    teachers = torch.tensor([key.teacher for key in keys])
    return clash & (teachers[:, None] != teachers)


def group_by_name(names: Sequence[str | None]) -> list[list[int]]:
    """Places of the classes that are one by their names; a class without a name stays by itself."""
    groups: dict[str | int, list[int]] = {}
    for place, name in enumerate(names):
        groups.setdefault(place if name is None else name, []).append(place)
    return list(groups.values())


def clashes_of_groups(clash: Tensor, groups: Sequence[Sequence[int]]) -> Tensor:
    """(C, C) bool between classes -> (G, G) bool between groups: where any two of their classes clash."""
    member = torch.zeros(len(groups), len(clash))
    for number, places in enumerate(groups):
        member[number, list(places)] = 1
    between = member @ clash.float() @ member.T > 0
    return between & ~torch.eye(len(groups), dtype=torch.bool)


def _column(key: ClassKey, sheet: AnswerSheet) -> int:
    """Where a class's answer stands, -1 if it is not among those of a large head."""
    chosen, start = sheet.chosen[key.teacher], sheet.starts[key.teacher]
    if chosen is None:
        return start + key.index
    found = (chosen == key.index).nonzero()
    return start + int(found[0, 0]) if len(found) else -1
