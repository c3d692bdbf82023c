"""Which classes of different teachers are the same, read off their logits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from torch import Tensor
from torch.nn import functional as F

from hf_free.data.logit_rows import LogitRows
from hf_free.data.logits import CHUNK, CenterPerTeacher, ClassKey, LogitLayout

MIN_LIKENESS = 0.85
"""Two groups of classes become one from this mean correlation on, in units of what is expected of one and the same
class. On the 100 CIFAR-FS teachers 0.75 serves as well, and 0.85 merges hardly any two classes of different names
(docs/experiments). It is stricter than `CLASH_SCORE`: here little is lost if one class is taken for two, there if two
are taken for one."""

IMPOSSIBLE_LIKENESS = -1e9
"""Likeness of two classes that are not one: no mean over two groups with such a pair reaches `MIN_LIKENESS`."""

CLASH_SCORE = 0.35
"""Correlation from which on two classes are taken for one: on the 100 CIFAR-FS teachers that finds 86 % of the true
pairs and, beside them, classes that look alike (docs/experiments); leaving out too many costs little."""

SURER_CLASH_SCORES = (0.5, 0.65)
"""Taken in turn where `CLASH_SCORE` leaves fewer classes than an episode has: few teachers have few classes, and then
leaving out too many costs all episodes. At 0.5 it still finds 51 % of the true pairs (docs/experiments)."""

MIN_CLASS_IMAGES, MAX_CLASS_IMAGES = 100, 2_000
"""Pictures to ask about: with fewer, a correlation of unrelated classes reaches CLASH by chance (its standard
deviation is 1 / sqrt(N)); more than 2,000 change nothing."""


def clash_scores(answers: LogitRows) -> Tensor:
    """Correlation over pictures of every two classes' logits, each teacher's logits centered within each picture.

    Where teachers were asked about some pictures only, those count that both classes' teachers were asked about; with
    fewer than `MIN_CLASS_IMAGES` of them nothing is known.

    Args:
        answers: N rows, A answers in all; of rows with all teachers at most `MAX_CLASS_IMAGES` are looked at.

    Returns:
        (A, A), symmetric, in [-1, 1]; 0 for a class whose logit never moves, and where nothing is known.
    """
    sizes = answers.sizes
    if answers.blocks is not None:
        met, scores = _correlations_of_pairs(answers)
        return scores.masked_fill((met < MIN_CLASS_IMAGES)[_owners(sizes)][:, _owners(sizes)], 0)
    dense = answers.values[:: -(-len(answers) // MAX_CLASS_IMAGES)]
    known = ~dense.isnan()
    centered = CenterPerTeacher(sizes).to(dense.device)(dense.float().nan_to_num()) * known
    centered = (centered - centered.sum(0) / known.sum(0).clamp_min(1)) * known
    directions = F.normalize(centered, dim=0, eps=1e-6)
    scores = directions.T @ directions
    return (scores + scores.T) / 2  # a matrix product need not round symmetrically


def find_clashes(
    keys: Sequence[ClassKey],
    names: Sequence[str | None],
    answers: LogitRows | None = None,
    layout: LogitLayout | None = None,
    *,
    score: float = CLASH_SCORE,
) -> Tensor:
    """Which classes must not meet in an episode.

    Args:
        keys: The classes.
        names: Name of each class, None where it has none or names are not to be trusted.
        answers: The teachers' logits about any pictures, for the classes without a name; None asks nobody.
        layout: Where whose answers stand.
        score: Correlation from which on two classes are taken for one.

    Returns:
        (C, C) bool, symmetric. Two classes of one teacher never clash; where both have names, the names decide.
    """
    count = len(keys)
    clash = torch.zeros(count, count, dtype=torch.bool)
    if answers is not None and layout is not None and len(answers) >= MIN_CLASS_IMAGES:
        places = torch.tensor([_column(key, layout) for key in keys])
        known = places >= 0
        scores = clash_scores(answers).cpu()
        clash = (scores[places.clamp_min(0)][:, places.clamp_min(0)] >= score) & known[:, None] & known
    spelled = {name: number for number, name in enumerate(dict.fromkeys(names))}
    numbers = torch.tensor([-1 if name is None else spelled[name] for name in names])
    both_named = (numbers[:, None] >= 0) & (numbers >= 0)
    clash = torch.where(both_named, numbers[:, None] == numbers, clash)
    teachers = torch.tensor([key.teacher for key in keys])
    return clash & (teachers[:, None] != teachers)


def some_apart(clash: Tensor, order: Sequence[int], most: int) -> list[int]:
    """Places, as they come in an order, each of which clashes with none before it.

    Args:
        clash: (C, C) bool, as `find_clashes` gives.
        order: Places.
        most: How many are enough.
    """
    chosen: list[int] = []
    for place in order:
        if len(chosen) == most:
            break
        if not clash[place, chosen].any():
            chosen.append(place)
    return chosen


def freest_first(clash: Tensor, order: Sequence[int]) -> list[int]:
    """Places, those with the fewest clashes first, equal ones as they come: most of them fit together so."""
    clashes = clash.sum(1).tolist()
    return sorted(order, key=lambda place: clashes[place])


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
    """Correlation to be expected between the logits of one class in two teachers, each centered in its own teacher.

    With true scores that are independent and vary alike, and no other class in common, centering n classes leaves a
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


def likeness(answers: LogitRows, teachers: Tensor) -> Tensor:
    """How similarly any two classes are answered; about 1 for one and the same class.

    Only the pictures recovered from either of two teachers count. Their answers to pictures of neither's kind go
    together for other reasons: teachers of letters agree on much about photographs, and about how much ink there is.
    For two teachers with too few pictures of their own all pictures count.

    Two teachers of two classes each answer one number each: if they share a class, the other two seem to be one as
    well. So they are never quite `MIN_LIKENESS` to each other, and larger teachers decide, if there are any. Classes
    of one teacher are not one, however alike: they have `IMPOSSIBLE_LIKENESS`.

    Args:
        answers: N rows, A answers in all. Of two teachers those pictures count that both were asked about.
        teachers: (N,) the block of the teacher that a picture was recovered from, -1 for other pictures.

    Returns:
        (A, A), symmetric.
    """
    sizes = answers.sizes
    counts = torch.tensor(sizes)
    owner = _owners(sizes)
    if answers.blocks is None:
        pictures = torch.bincount(teachers[teachers >= 0], minlength=len(sizes))
        met, own = pictures[:, None] + pictures, correlations_within(answers.values, sizes, teachers)
    else:
        met, own = correlations_of_asked(answers, teachers)
    scores = torch.where((met >= MIN_CLASS_IMAGES)[owner][:, owner], own, clash_scores(answers))
    scores = scores / expected_scores(sizes)
    both_two = (counts[owner][:, None] == 2) & (counts[owner] == 2)
    scores = torch.where(both_two, scores.clamp_max(0.99 * MIN_LIKENESS), scores)
    return scores.masked_fill(owner[:, None] == owner, IMPOSSIBLE_LIKENESS)


def correlations_within(answers: Tensor, sizes: Sequence[int], teachers: Tensor) -> Tensor:
    """Correlation of every two classes' logits over the pictures recovered from their two teachers.

    Each teacher's logits are centered within each picture, and over the pictures of each teacher: that two kinds of
    pictures differ is no sign of a common class.

    Args:
        answers: (N, A) logits of all teachers side by side; no answer, NaN, counts as the mean one.
        sizes: Number of answers of each teacher, A in all.
        teachers: As in `likeness`.

    Returns:
        (A, A), symmetric, in [-1, 1]; 0 for a class whose logit never moves.
    """
    width, center = sum(sizes), CenterPerTeacher(sizes)
    owner = _owners(sizes)
    products = torch.zeros(width, width)  # [b, c] over the pictures of b's teacher
    squares = torch.zeros(len(sizes), width)
    for teacher, columns in enumerate(torch.arange(width).split(list(sizes))):
        seen = center(answers[teachers == teacher].float().nan_to_num())
        seen = seen - seen.sum(0) / max(1, len(seen))
        products[columns] = seen[:, columns].T @ seen
        squares[teacher] = seen.square().sum(0)
    of_own = squares[owner, torch.arange(width)]
    of_both = of_own[:, None] + squares.T[:, owner]  # [b, c]: of b, over the pictures of b's and of c's teacher
    return (products + products.T) / (of_both * of_both.T).clamp_min(1e-12).sqrt()


def correlations_of_asked(answers: LogitRows, teachers: Tensor) -> tuple[Tensor, Tensor]:
    """`correlations_within` over the images that both teachers of a pair were asked about.

    Args:
        answers: Rows of those who were asked.
        teachers: As in `likeness`.

    Returns:
        Images of each pair of teachers (T, T), and correlations (A, A).
    """
    sizes = answers.sizes
    width, count = sum(sizes), len(sizes)
    owner, device = _owners(sizes), answers.values.device
    met = torch.zeros(count, count, dtype=torch.double)
    products = torch.zeros(width, width)  # [b, c] over the images of b's teacher
    of_own = torch.zeros(width, count)  # [b, q] squares of b, over its teacher's images that q was asked about
    of_others = torch.zeros(count, width)  # [t, c] squares of c, over t's images
    for teacher, columns in enumerate(torch.arange(width).split(list(sizes))):
        rows = (teachers == teacher).nonzero().flatten().to(device)
        seen, asked = _centered_rows(answers[rows], torch.zeros(width, dtype=torch.double))
        seen = seen - seen.sum(0) / asked.sum(0).clamp_min(1)[owner] * asked[:, owner]
        own, by_own = seen[:, columns], asked[:, teacher]
        met[teacher] = asked.T @ by_own
        pairs = met[teacher].clamp_min(1)
        sums_own, sums = own.T @ asked, seen.T @ by_own  # (n, T), (A,)
        products[columns] = (own.T @ seen - sums_own[:, owner] * sums / pairs[owner]).float()
        of_own[columns] = (own.square().T @ asked - sums_own.square() / pairs).clamp_min(0).float()
        of_others[teacher] = (seen.square().T @ by_own - sums.square() / pairs[owner]).clamp_min(0).float()
    of_both = of_own[:, owner] + of_others.T[:, owner]  # [b, c]: of b, over the images of b's and of c's teacher
    return met + met.T, (products + products.T) / (of_both * of_both.T).clamp_min(1e-12).sqrt()


def _correlations_of_pairs(answers: LogitRows) -> tuple[Tensor, Tensor]:
    """Images that both teachers of a pair were asked about (T, T), and Pearson's correlations over them (A, A)."""
    sizes, owner = answers.sizes, _owners(answers.sizes)
    width, count = sum(sizes), len(sizes)
    shift = torch.zeros(width, dtype=torch.double)
    met, products = (torch.zeros(n, n, dtype=torch.double) for n in (count, width))
    sums, squares = (torch.zeros(width, count, dtype=torch.double) for _ in range(2))  # over the other's images
    for first in range(0, len(answers), CHUNK):
        seen, asked = _centered_rows(answers[first : first + CHUNK], shift)
        if first == 0:  # differences of large sums lose digits: numbers near 0 are summed
            shift = seen.sum(0) / asked.sum(0).clamp_min(1)[owner]
            seen = seen - shift * asked[:, owner]
        met += asked.T @ asked
        products += seen.T @ seen
        sums += seen.T @ asked
        squares += seen.square().T @ asked
    pairs = met.clamp_min(1)[owner]  # (A, T)
    products -= sums[:, owner] * sums.T[owner] / pairs[:, owner]
    spread = (squares - sums.square() / pairs).clamp_min(0)[:, owner]
    scores = products / (spread * spread.T).clamp_min(1e-12).sqrt()
    return met, ((scores + scores.T) / 2).float()


def _centered_rows(answers: LogitRows, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (N, A) less each teacher's mean in each image, and less a shift (A,); 0 where it is not known; and
    whether each teacher's are (N, T), as 0 and 1."""
    sizes = answers.sizes
    dense = answers.dense().double().cpu()
    known = ~dense[:, torch.tensor([0, *sizes[:-1]]).cumsum(0)].isnan()
    centered = CenterPerTeacher(sizes).double()(dense.nan_to_num()) - shift
    return centered * known[:, _owners(sizes)], known.double()


def _owners(sizes: Sequence[int]) -> Tensor:
    """(A,) the teacher of each answer."""
    return torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))


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
