"""A pooled learner of fewer teachers: those that together say most of what all of them say.

The inner products of pictures that all teachers make together are approximated by a weighted sum of a few teachers'
own: orthogonal matching pursuit (Pati et al., 1993) with weights that are not negative. The teacher that explains most
of what is missing joins, then the weights of all that are there are found anew. Each stands for others that see alike.
Where several kinds of teachers are known, that is done within each, so that none loses its share. No label and no real
picture is needed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from hf_free.learner.pooled_teachers import UNKNOWN, PooledTeachers
from hf_free.pooling.fit import MOST_ROWS
from hf_free.pooling.pictures import Said


@dataclass(frozen=True)
class Kept:
    """Which teachers are kept, and how they stand for all.

    Attributes:
        places: Of the teachers, in their order.
        shares: How many times its own share each one has among them.
        agreement: RV coefficient of their inner products with those of all, at most 1.
    """

    places: tuple[int, ...]
    shares: tuple[float, ...]
    agreement: float


@torch.no_grad()
def most_alike(pooled: PooledTeachers, said: Said, count: int) -> Kept:
    """The teachers that stand best for all; where kinds of them are known, each kind has its share of the places.

    Args:
        pooled: All teachers, fitted to what they say.
        said: That.
        count: How many are kept, from 1 to the number of teachers.
    """
    pictures = len(said.features[0])
    rows = torch.linspace(0, pictures - 1, min(MOST_ROWS, pictures)).long()
    embedded = pooled(torch.cat([part[rows] for part in (*said.features, *said.logits)], 1))
    features = embedded.split([*pooled.feature_sizes, sum(pooled.answer_sizes) + len(pooled.feature_sizes)], 1)[:-1]
    answers = embedded[:, sum(pooled.feature_sizes) : -len(pooled.feature_sizes)].split(list(pooled.answer_sizes), 1)
    tables = torch.stack([_centered_products(torch.cat(parts, 1)) for parts in zip(features, answers, strict=True)])
    alike = defaultdict[tuple[int, int], list[int]](list)
    for place, (group, kind) in enumerate(zip(pooled.groups.tolist(), pooled.kinds.tolist(), strict=True)):
        alike[(0, UNKNOWN) if kind == UNKNOWN else (group, kind)].append(place)
    shares = dict[int, float]()
    for places, number in zip(alike.values(), allotted([len(one) for one in alike.values()], count), strict=True):
        part = chosen(tables[places], number)
        shares |= {places[one]: share for one, share in zip(part.places, part.shares, strict=True)}
    kept = tuple(sorted(shares))
    own, whole = torch.stack([shares[place] * tables[place] for place in kept]).sum(0), tables.sum(0)
    return Kept(kept, tuple(shares[place] for place in kept), float(torch.cosine_similarity(own, whole, dim=0)))


def allotted(sizes: Sequence[int], count: int) -> list[int]:
    """Places for each kind in proportion to its size, by largest remainders (Hamilton's method).

    Args:
        sizes: Number of teachers of each kind.
        count: Number of places, at most their sum.
    """
    quotas = [Fraction(count * size, sum(sizes)) for size in sizes]
    places = [int(quota) for quota in quotas]
    by_rest = sorted(range(len(sizes)), key=lambda kind: places[kind] - quotas[kind])
    for kind in by_rest[: count - sum(places)]:
        places[kind] += 1
    return places


def chosen(products: Tensor, count: int) -> Kept:
    """Few tables whose weighted sum comes near to the sum of all.

    Args:
        products: (T, any) centered inner products of each table's rows.
        count: How many are chosen.
    """
    common = (products @ products.T).double().numpy()  # (T, T)
    with_all, lengths = common.sum(1), np.sqrt(np.diag(common)).clip(1e-30)
    places, shares = list[int](), np.zeros(0)
    for _ in range(count):
        missing = (with_all - common[:, places] @ shares) / lengths
        missing[places] = -np.inf
        places.append(int(missing.argmax()))
        shares = _shares(common[np.ix_(places, places)], with_all[places])
    explained = shares @ common[np.ix_(places, places)] @ shares
    agreed = (with_all[places] @ shares) / np.sqrt(max(explained * with_all.sum(), 1e-60))
    order = np.argsort(places)
    return Kept(
        tuple(places[one] for one in order), tuple(float(shares[one]) for one in order), float(min(agreed, 1.0))
    )


def _shares(common: np.ndarray, with_all: np.ndarray) -> np.ndarray:
    """Weights w >= 0 that make w' common w - 2 w' with_all smallest: (K, K), (K,) -> (K,)."""
    jitter = 1e-9 * max(np.trace(common), 1e-30) / len(common)  # two tables may be the same
    root = np.linalg.cholesky(common + jitter * np.eye(len(common)))
    return nnls(root.T, np.linalg.solve(root, with_all))[0]


def _centered_products(table: Tensor) -> Tensor:
    """Inner products of the rows (N, any) of a table, centered: (N * N,)."""
    centered = table - table.mean(0)
    return (centered @ centered.T).flatten()
