"""Who is asked about which image: the teacher it was recovered from, and others in turn.

Asking every teacher about every image takes time and memory in proportion to both numbers. Of a hundred teachers, a
quarter per image teaches the learner as much (docs/experiments), and then the number of teachers hardly matters.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

AT_A_TIME = 4
"""Of many teachers, this many times as many as are asked about each image are asked in one call of `choose_asked`. To
ask a teacher about a few images costs nearly as much as about a hundred (docs/experiments/speed.md)."""


def choose_asked(owners: Tensor, counts: Sequence[int], asked: int | None, *, seed: int) -> Tensor | None:
    """Draw the blocks of a layout that each image is labeled with.

    The teacher that the image was recovered from comes first. The others are those that were asked least so far, with
    ties broken at random: so all are asked about equally many images (give or take one, except teachers from which
    more were recovered), and all pairs of teachers share about equally many images. Where there are more than
    `AT_A_TIME` times `asked`, the others are drawn from that many, which were asked least so far: each is asked about
    many images in one call and about none in others, and numbers are equal over several calls. The draw depends on the
    arguments alone: a resumed run goes on with the same draws, and ranks that share images need not communicate.

    Args:
        owners: (N,) block of the teacher that the image was recovered from; -1 for a drawn image.
        counts: Images that each block was asked about so far.
        asked: Blocks per image; None asks all.
        seed: The run's.

    Returns:
        (N, asked), or None where everybody is asked about every image.
    """
    if asked is None or asked >= len(counts):
        return None
    totals = np.array(counts, dtype=np.float64)
    generator = np.random.default_rng([seed, int(totals.sum())])
    chosen = np.empty((len(owners), asked), dtype=np.int64)
    rests = np.zeros(len(totals))
    if len(totals) > AT_A_TIME * asked:
        rests[np.argsort(totals + generator.random(len(totals)))[AT_A_TIME * asked :]] = np.inf
    for row, owner in enumerate(owners.tolist()):
        order = totals + rests + generator.random(len(totals))
        if owner >= 0:
            order[owner] = -1.0
        least = np.argpartition(order, asked - 1)[:asked]
        chosen[row] = least[np.argsort(order[least])]
        totals[least] += 1
    return torch.from_numpy(chosen)


def count_asked(counts: Sequence[int], asked: Tensor) -> list[int]:
    """How many images each block was asked about, these (N, K) included."""
    return (torch.tensor(counts) + torch.bincount(asked.flatten(), minlength=len(counts))).tolist()
