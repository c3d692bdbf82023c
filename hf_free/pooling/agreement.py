"""Weights of several tables about the same pictures: each counts as much as it agrees with the others.

STATIS (L'Hermier des Plantes, 1976; Lavit et al., "The ACT (STATIS method)", 1994): tables of different widths are
compared by the inner products of their rows, two of them by Escoufier's RV coefficient (1973), which is the cosine of
the two matrices of centered inner products (for networks: linear CKA, Kornblith et al. 2019). The first eigenvector of
these coefficients says how much each table has in common with all. What one teacher alone sees in the pictures is most
often not there. No label and no real picture is needed.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

DIRECTIONS, MOST_KINDS = 2, 4
"""Directions of agreement, after the first, in which kinds of tables are told apart, and how many kinds at most. With
ten teachers each of signs, letters and photographs, three kinds are found in two directions, and 29 or all 30 of the
teachers are in theirs."""

FEWEST_OF_A_KIND = 3
"""Fewest tables of a kind: the mean of fewer is chance."""

APART = 2.0
"""Several kinds are assumed from this ratio on, of the agreement's second eigenvalue to the median of those below it.
Measured on drawn pictures: 1.0 for 20 and for 30 Conv-4 of CIFAR-FS, 1.0 and 1.5 for ten of road signs and of letters,
above 3 for both together and for three domains (docs/experiments/few-teachers.md)."""


def agreement(tables: Iterable[Tensor]) -> Tensor:
    """RV coefficients (T, T) between tables of the same N rows, each (N, any width); from 0 to 1.

    A table whose rows are all alike agrees with nobody, itself included.
    """
    rows = []
    for table in tables:
        centered = table.float() - table.float().mean(0)
        products = (centered @ centered.T).flatten()
        rows.append(products / products.norm().clamp_min(1e-12))
    stacked = torch.stack(rows)
    return (stacked @ stacked.T).clamp(0, 1)


def compromise(coefficients: Tensor, votes: Tensor | None = None) -> Tensor:
    """How much each table counts in STATIS's compromise: the first eigenvector of their RV coefficients, (T,).

    All coefficients are 0 or more, so that its entries are too (Perron and Frobenius); its length is 1.

    Args:
        coefficients: (T, T).
        votes: (T,) how often each table is there, more than 0; None: once each.
    """
    given = coefficients.double()
    roots = torch.ones(len(given)).double() if votes is None else votes.double().sqrt()
    first = torch.linalg.eigh(roots[:, None] * given * roots)[1][:, -1].abs() / roots
    return (first / first.norm().clamp_min(1e-30)).float()


def see_apart(coefficients: Tensor) -> bool:
    """Whether tables are of several kinds, that is, whether their agreement has a second direction besides what all
    share. All pairs of tables of one kind agree alike: after the first, the eigenvalues of their coefficients are
    nearly equal. Kinds that agree within and less across raise the second one above the rest, as in the scree test
    (Cattell, 1966).

    Args:
        coefficients: RV coefficients (T, T); of fewer than four tables nothing can be said.
    """
    if len(coefficients) < 4:
        return False
    values = torch.linalg.eigvalsh(coefficients.double()).flip(0)
    return bool(values[1] > APART * values[2:].median())


def kinds_of(coefficients: Tensor) -> list[int] | None:
    """The kind of each table, as a number from 0: by k-means in the second and third direction of their agreement,
    with as many kinds as have the best silhouette (Rousseeuw, 1987). None where one of them has too few tables.

    Args:
        coefficients: RV coefficients (T, T) of tables that are of several kinds (`see_apart`).
    """
    from sklearn.cluster import KMeans  # slow to import
    from sklearn.metrics import silhouette_score

    values, vectors = torch.linalg.eigh(coefficients.double())
    places = (vectors * values.clamp_min(0).sqrt()).flip(1)[:, 1 : 1 + DIRECTIONS].numpy()
    best, found = -1.0, list[int]()
    for count in range(2, min(MOST_KINDS, len(places) - 1) + 1):
        labels = KMeans(count, n_init=20, random_state=0).fit_predict(places)
        score = float(silhouette_score(places, labels))
        if score > best:
            best, found = score, labels.tolist()
    return None if not found or min(map(found.count, found)) < FEWEST_OF_A_KIND else found


def effective_rank(table: Tensor) -> float:
    """Number of directions that rows (N, D) vary in: the exponential of the entropy of their shares of the variance.

    Roy & Vetterli, "The effective rank", 2007, of the covariance. It is at least 1.
    """
    centered = table.double() - table.double().mean(0)
    is_wide = len(centered) < centered.shape[1]
    product = centered @ centered.T if is_wide else centered.T @ centered
    variances = torch.linalg.eigvalsh(product).clamp_min(0)
    shares = variances / variances.sum().clamp_min(1e-30)
    return torch.special.entr(shares).sum().exp().item()
