"""What each teacher contributes to a pooled learner, found out from pictures that are not real."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from hf_free.learner.pooled_teachers import PooledTeachers
from hf_free.pooling.agreement import agreement, compromise
from hf_free.pooling.pictures import Said

HALF = 0.3
"""A direction in which features vary by this many times their mean variance counts half of one in which they do not
(docs/experiments/few-teachers.md)."""

MOST_ROWS = 512
"""Pictures that agreement is measured on, at most: their inner products are as many numbers squared, for each
teacher."""


def fit_pooled(said: Said) -> PooledTeachers:
    """Centres, whitening and weights of teachers.

    Args:
        said: What they say of at least `hf_free.learner.pooled_teachers.MOST_DIRECTIONS` pictures.
    """
    pooled = PooledTeachers([part.shape[1] for part in said.features], [0] * len(said.features))
    pooled.center.copy_(torch.cat([part.mean(0) for part in said.features]))
    tables = []
    for whitening, features in zip(pooled.whitenings, said.features, strict=True):
        whitening.fit(features, HALF)
        tables.append(F.normalize(whitening(features - features.mean(0)), dim=1, eps=1e-8))
    count = len(tables[0])
    rows = torch.linspace(0, count - 1, min(MOST_ROWS, count)).long()
    pooled.feature_weights.copy_(compromise(agreement(table[rows] for table in tables)).sqrt())
    return pooled
