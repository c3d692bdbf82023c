"""Which classes of different teachers are the same, read off their logits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from torch import Tensor
from torch.nn import functional as F

from hf_free.data.logits import CenterPerTeacher, ClassKey, LogitLayout

MIN_LIKENESS = 0.85
"""Mean correlation between the classes of two groups from which on they become one, in units of what is to be expected
of one and the same class. On the 100 CIFAR-FS teachers 0.75 serves as well, and 0.85 merges hardly any two classes of
different names (docs/experiments). It is stricter than `CLASH_SCORE`: here one class taken for two loses little,
there two taken for one do."""

IMPOSSIBLE_LIKENESS = -1e9
"""Likeness of two classes that are not one: no mean over two groups with such a pair reaches `MIN_LIKENESS`."""

CLASH_SCORE = 0.35
"""Correlation from which on two classes are taken for one: on the 100 CIFAR-FS teachers that finds 86 % of the true
pairs and, beside them, classes that look alike (docs/experiments); leaving out too many costs little."""

MIN_CLASS_IMAGES, MAX_CLASS_IMAGES = 100, 2_000
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
    centred = CenterPerTeacher(sizes).to(answers.device)(answers.float().nan_to_num()) * known
    centred = (centred - centred.sum(0) / known.sum(0).clamp_min(1)) * known
    directions = F.normalize(centred, dim=0, eps=1e-6)
    scores = directions.T @ directions
    return (scores + scores.T) / 2  # a matrix product need not round symmetrically


def find_clashes(
    keys: Sequence[ClassKey],
    names: Sequence[str | None],
    answers: Tensor | None = None,
    layout: LogitLayout | None = None,
) -> Tensor:
    """Which classes must not meet in an episode.

    Args:
        keys: The classes.
        names: Name of each class, None where it has none or names are not to be trusted.
        answers: (N, A) the teachers' logits about any pictures, for the classes without a name; None asks nobody.
        layout: Where whose answers stand.

    Returns:
        (C, C) bool, symmetric. Two classes of one teacher never clash; where both have names, the names decide.
    """
    count = len(keys)
    clash = torch.zeros(count, count, dtype=torch.bool)
    if answers is not None and layout is not None and len(answers) >= MIN_CLASS_IMAGES:
        places = torch.tensor([_column(key, layout) for key in keys])
        known = places >= 0
        scores = clash_scores(answers[:: -(-len(answers) // MAX_CLASS_IMAGES)], layout.sizes).cpu()
        clash = (scores[places.clamp_min(0)][:, places.clamp_min(0)] >= CLASH_SCORE) & known[:, None] & known
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


def _column(key: ClassKey, layout: LogitLayout) -> int:
    """Where a class's answer stands, -1 if it is not among those of a large head."""
    place = layout.place(key.teacher)
    if place is None:
        return -1
    block = layout.blocks[place]
    if block.chosen is None:
        return block.start + key.index
    return block.start + block.chosen.index(key.index) if key.index in block.chosen else -1


def expected_scores(sizes: Sequence[int]) -> Tensor:
    """Correlation to be expected between the logits of one class in two teachers, each centred in its own teacher.

    With true scores that are independent and vary alike, and no other class in common, centring n classes leaves a
    class (1 - 1/n) of its variance, and what two teachers of n and m classes then have in common of it is
    (1 - 1/n) (1 - 1/m): a correlation of sqrt((1 - 1/n) (1 - 1/m)), 0.8 for five classes each and 0.5 for two.

    Args:
        sizes: Number of answers of each teacher, A in all.

    Returns:
        (A, A).
    """
    counts = torch.tensor(sizes, dtype=torch.float)
    left = (1 - 1 / counts.clamp_min(2)).sqrt().repeat_interleave(torch.tensor(sizes))
    return torch.outer(left, left)


def likeness(answers: Tensor, sizes: Sequence[int], teachers: Tensor) -> Tensor:
    """How alike any two classes are answered, about 1 for one and the same class.

    Asked are the pictures recovered from either of two teachers. What both answer to pictures of neither's kind goes
    together for reasons of its own: teachers of letters agree on much about photographs, and about how much ink there
    is. Of two teachers with too few pictures of their own all pictures are asked.

    Two teachers of two classes each answer one number each: if they share a class, the other two seem to be one as
    well. So they are never quite `MIN_LIKENESS` to each other, and larger teachers decide, if there are any. Classes
    of one teacher are not one, however alike: they have `IMPOSSIBLE_LIKENESS`.

    Args:
        answers: (N, A) logits of all teachers side by side; NaN where a teacher gave no answer.
        sizes: Number of answers of each teacher, A in all.
        teachers: (N,) the teacher that a picture was recovered from, -1 for other pictures.

    Returns:
        (A, A), symmetric.
    """
    counts = torch.tensor(sizes)
    owner = torch.arange(len(sizes)).repeat_interleave(counts)
    pictures = torch.bincount(teachers[teachers >= 0], minlength=len(sizes))[owner]
    own = correlations_within(answers, sizes, teachers)
    general = clash_scores(answers[:: -(-len(answers) // MAX_CLASS_IMAGES)], sizes)
    scores = torch.where(pictures[:, None] + pictures >= MIN_CLASS_IMAGES, own, general) / expected_scores(sizes)
    both_two = (counts[owner][:, None] == 2) & (counts[owner] == 2)
    scores = torch.where(both_two, scores.clamp_max(0.99 * MIN_LIKENESS), scores)
    return scores.masked_fill(owner[:, None] == owner, IMPOSSIBLE_LIKENESS)


def correlations_within(answers: Tensor, sizes: Sequence[int], teachers: Tensor) -> Tensor:
    """Correlation of every two classes' logits over the pictures recovered from their two teachers.

    Each teacher's logits are centred within each picture, and over the pictures of each teacher: that two kinds of
    pictures differ is no sign of a common class.

    Args:
        answers: As in `likeness`; no answer counts as the mean one.
        sizes: Number of answers of each teacher, A in all.
        teachers: As in `likeness`.

    Returns:
        (A, A), symmetric, in [-1, 1]; 0 for a class whose logit never moves.
    """
    width, centre = sum(sizes), CenterPerTeacher(sizes)
    owner = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    products = torch.zeros(width, width)  # [b, c] over the pictures of b's teacher
    squares = torch.zeros(len(sizes), width)
    for teacher, columns in enumerate(torch.arange(width).split(list(sizes))):
        seen = centre(answers[teachers == teacher].float().nan_to_num())
        seen = seen - seen.sum(0) / max(1, len(seen))
        products[columns] = seen[:, columns].T @ seen
        squares[teacher] = seen.square().sum(0)
    of_own = squares[owner, torch.arange(width)]
    of_both = of_own[:, None] + squares.T[:, owner]  # [b, c]: of b, over the pictures of b's and of c's teacher
    return (products + products.T) / (of_both * of_both.T).clamp_min(1e-12).sqrt()


def group_classes(scores: Tensor, *, alike: float = MIN_LIKENESS) -> Tensor:
    """Which classes are one: average linkage (UPGMA, Sokal & Michener 1958).

    Args:
        scores: (A, A) similarities, see `likeness`.
        alike: Mean similarity of two groups from which on they become one.

    Returns:
        (A,) the number of each class's group, 0 to G - 1 in the order in which they first occur.
    """
    if len(scores) < 2:
        return torch.zeros(len(scores), dtype=torch.long)
    distances = 1 - scores.double().clamp_max(1).cpu().numpy()
    np.fill_diagonal(distances, 0)
    tree = linkage(squareform(distances, checks=False), "average")
    found = fcluster(tree, 1 - alike, "distance").tolist()
    numbers = {group: number for number, group in enumerate(dict.fromkeys(found))}
    return torch.tensor([numbers[group] for group in found])
