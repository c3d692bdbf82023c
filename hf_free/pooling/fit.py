"""What each teacher contributes to a pooled learner, found out from pictures that are not real.

Features are centered, whitened and of length 1 for each teacher. A teacher's share of the features is the square of
its entry in the first eigenvector of their agreement, times its number of classes: small networks agree with each
other about what they all miss, and a network of 1,000 classes beside them sees more. All teachers of one architecture
have `MOST_VOTES` at most: they see alike, and a hundred small ones would drown a few strong ones. Of the answers every
class has an equal share. All answers together weigh more than the features in proportion to the number of directions
they vary in. Each rule and constant was chosen in docs/experiments/few-teachers.md.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_free.learner.pooled_teachers import TEMPERATURE, UNKNOWN, PooledTeachers, entropy, log_length
from hf_free.pooling.agreement import agreement, compromise, effective_rank, kinds_of, see_apart
from hf_free.pooling.pictures import Said

RANK = 2.5
"""Times a teacher's number of classes: rank of the direction of its features that is whitened by half its power, which
then counts 1 / sqrt(2). What stronger directions vary by more is evened out, what weaker ones hold is left as it is:
a network learns about as many directions as it has classes. Of 2, 2.5 and 3, 2 is better for small teachers and 3 for
strong ones, by some tenths (docs/experiments/few-teachers.md)."""

MOST_OF_DIRECTIONS = 0.5
"""That rank is at most this share of the directions: a network of 1,000 classes has no direction of rank 2,500."""

LENGTH_LEVEL = 0.1
"""The variance, in mean variances, that is whitened by half its power where the length of features is read, which
tells kinds of pictures apart: nearly Mahalanobis' distance. Of 0.01 to 1 all up to 0.1 are alike, 1 loses 0.7 points
on signs (docs/experiments/few-teachers.md)."""

MOST_ENTROPY = 0.7
"""Most mean entropy of a teacher's answers, as a share of the logarithm of its number of classes. At `TEMPERATURE`
the answers of a network of 1,000 classes to pictures that it does not know are nearly all alike; its temperature is
lowered until they are not (docs/experiments/few-teachers.md)."""

LEAST_TEMPERATURE = 0.1
"""Lowest temperature that is tried."""

MOST_VOTES = 2.0
"""Teachers of one architecture count as at most this many."""

MOST_ROWS = 512
"""Most pictures that agreement is measured on: their inner products are that many numbers squared, for each
teacher."""


def fit_pooled(said: Said, architectures: Sequence[Hashable]) -> PooledTeachers:
    """Centers, whitening and weights of teachers.

    Args:
        said: Their features and logits for at least `hf_free.learner.pooled_teachers.MOST_DIRECTIONS` pictures.
        architectures: What each teacher's network is.
    """
    widths, counts = ([part.shape[1] for part in parts] for parts in (said.features, said.logits))
    pooled = PooledTeachers(widths, counts)
    temperatures = torch.tensor([temperature_of(part) for part in said.logits])
    if not bool((temperatures == TEMPERATURE).all()):
        pooled.temperatures = temperatures
    pooled.center.copy_(torch.cat([part.mean(0) for part in said.features]))
    pictures = len(said.features[0])
    rows = torch.linspace(0, pictures - 1, min(MOST_ROWS, pictures)).long()
    seen, levels, lengths = [], [], []
    for whitening, features, logits in zip(pooled.each_whitening(), said.features, said.logits, strict=True):
        levels.append(whitening.fit_to_rank(features, whitened_rank(logits.shape[1], len(whitening.factors))))
        whitened = whitening(features - features.mean(0))
        lengths.append(log_length(whitened))
        seen.append(F.normalize(whitened[rows], dim=1, eps=1e-8))
    parts = zip(said.logits, temperatures, strict=True)
    probabilities = [F.softmax(part / temperature, 1) for part, temperature in parts]
    answers = [part[rows].sqrt() for part in probabilities]
    coefficients, classes = agreement(seen), torch.tensor(counts).float()
    groups = relevance_groups(coefficients, architectures)
    kinds = kinds_within(coefficients, groups)
    pooled.set_groups(groups, kinds)
    if len(set(groups)) < len(groups):
        pooled.sharpness = torch.tensor(levels) / LENGTH_LEVEL
        every = zip(pooled.each_whitening(), said.features, pooled.sharpness, strict=True)
        lengths = [whitening.log_length(part - part.mean(0), further) for whitening, part, further in every]
    pooled.usual, pooled.spread = _usual(lengths)
    if any(kind != UNKNOWN for kind in kinds):
        pooled.usual_entropy, pooled.entropy_spread = _usual([entropy(part) for part in probabilities])
    ranks = torch.tensor([effective_rank(part) for part in seen])
    shares = feature_shares(coefficients, architectures, classes)
    pooled.feature_weights.copy_(shares.sqrt())
    pooled.answer_weights.copy_((answer_share(ranks, shares, answers) * classes / classes.sum()).sqrt())
    return pooled


def whitened_rank(classes: int, directions: int) -> int:
    """Rank of the direction of a teacher's features that is whitened by half its power."""
    return max(1, round(min(RANK * classes, MOST_OF_DIRECTIONS * directions)))


def temperature_of(logits: Tensor) -> float:
    """Temperature at which a teacher's logits (N, C) have a mean entropy of at most `MOST_ENTROPY` of the highest; at
    most `TEMPERATURE`, and to a thousandth."""

    def is_unsure(temperature: float) -> bool:
        return entropy(F.softmax(logits / temperature, 1)).mean().item() > MOST_ENTROPY * math.log(logits.shape[1])

    if logits.shape[1] < 2 or not is_unsure(TEMPERATURE):
        return TEMPERATURE
    lower, upper = LEAST_TEMPERATURE, TEMPERATURE
    while upper - lower > 1e-3:
        middle = (lower + upper) / 2
        lower, upper = (lower, middle) if is_unsure(middle) else (middle, upper)
    return lower


def _usual(measured: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Each teacher's mean and deviation of a number (N,) per picture: (T,) both."""
    every = torch.stack(list(measured))
    return every.mean(1), every.std(1).clamp_min(1e-3)


def relevance_groups(coefficients: Tensor, architectures: Sequence[Hashable]) -> list[int]:
    """The group of each teacher, as a number; teachers of one group share their weight anew in each episode. Teachers
    are grouped where they are of one architecture and know several kinds of pictures, such as signs, letters and
    photographs. Where all know one kind, no support tells them apart, and chance would decide.

    Args:
        coefficients: Agreement of their features (T, T).
        architectures: What each teacher's network is.
    """
    groups = list(range(len(architectures)))
    for name in dict.fromkeys(architectures):
        alike = [place for place, other in enumerate(architectures) if other == name]
        if see_apart(coefficients[alike][:, alike]):
            for place in alike:
                groups[place] = alike[0]
    return groups


def kinds_within(coefficients: Tensor, groups: Sequence[int]) -> list[int]:
    """The kind of each teacher within its group; `UNKNOWN` where it is alone, or none was found.

    Args:
        coefficients: Agreement of their features (T, T).
        groups: The group of each teacher, see `relevance_groups`.
    """
    kinds = [UNKNOWN] * len(groups)
    for group in set(groups):
        alike = [place for place, other in enumerate(groups) if other == group]
        found = kinds_of(coefficients[alike][:, alike]) if len(alike) > 1 else None
        for place, kind in zip(alike, found or (), strict=False):
            kinds[place] = kind
    return kinds


def feature_shares(coefficients: Tensor, architectures: Sequence[Hashable], classes: Tensor) -> Tensor:
    """Share of each teacher's features, (T,), sum 1.

    Args:
        coefficients: Agreement of their features (T, T).
        architectures: What each teacher's network is.
        classes: (T,) number of each teacher's classes.
    """
    sizes = Counter(architectures)
    votes = torch.tensor([min(1.0, MOST_VOTES / sizes[name]) for name in architectures])
    shares = votes * compromise(coefficients, votes).square() * classes
    return shares / shares.sum().clamp_min(1e-30)


def answer_share(ranks: Tensor, shares: Tensor, answers: Sequence[Tensor]) -> float:
    """Weight of all answers together, where that of all features together is 1: every direction weighs alike.

    Directions are counted by effective rank: that of all answers side by side, and that of one teacher's features,
    averaged over the teachers by their shares.

    Args:
        ranks: (T,) effective rank of each teacher's features.
        shares: (T,) of them.
        answers: Answers (N, C) of each teacher.
    """
    one = (ranks * shares).sum().item()
    return effective_rank(torch.cat(list(answers), 1)) / max(one, 1.0)
