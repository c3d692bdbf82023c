"""Classes that several teachers know: the learner scores each once, beside the classes of all teachers so linked.

A teacher says how likely its own few classes are beside each other, never how likely they are beside another
teacher's. But teachers share classes, and a shared class links them: classes whose logits rise and fall together are
taken for one, whatever their names. Least squares then finds the scores of all classes whose differences within each
teacher come nearest to that teacher's answers. Teachers that no chain of shared classes links stay apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hf_free.data.logits import CenterPerTeacher
from hf_free.errors import LearnerError
from hf_free.learner.full_precision import in_full_precision

TEMPERATURE = 2.0
"""Temperature of the softmax over all classes of linked teachers, which are many more than one teacher's
(docs/experiments)."""

PENALTY = 1e-3
"""Penalty on the squared scores. It decides what no teacher does: the scores of linked teachers have a mean of
zero."""

MAX_SHARED_LOGITS = 4096
"""Answers above which none are shared: it takes memory in proportion to their square and time in proportion to their
cube, here 0.6 GiB and 8 s of one core."""


def common_scores(groups: Tensor, sizes: Sequence[int]) -> Tensor:
    """The linear map from all teachers' answers to one score per group of classes, by least squares.

    Minimizes, over the scores s, the squared difference between each teacher's centered answers and the centered
    scores of its classes, summed over the teachers, plus `PENALTY` times |s|^2.

    Args:
        groups: (A,) group of each class, see `group_classes`.
        sizes: Number of answers of each teacher, A in all.

    Returns:
        (G, A).
    """
    member = F.one_hot(groups).double()  # (A, G)
    centered = CenterPerTeacher(sizes).double()(member.T).T
    normal = centered.T @ centered
    normal.diagonal().add_(PENALTY)
    return torch.cholesky_solve(centered.T, torch.linalg.cholesky(normal)).float()


def linked_classes(groups: Tensor, sizes: Sequence[int]) -> Tensor:
    """Which groups a chain of teachers links, each sharing a group with the next.

    Args:
        groups: (A,) group of each class, 0 to G - 1.
        sizes: Number of answers of each teacher, A in all.

    Returns:
        (G,) the number of each group's chain.
    """
    members, teachers = groups.cpu().numpy(), np.arange(len(sizes)).repeat(sizes)
    before, first = (
        np.empty(0, dtype=np.int64),
        np.arange(int(groups.max()) + 1),
    )  # the first group that each is linked with so far
    while not np.array_equal(first, before):
        before, least = first, np.full(len(sizes), len(first))
        np.minimum.at(least, teachers, before[members])
        first = before.copy()
        np.minimum.at(first, members, least[teachers])
        first = first[first]
    return torch.from_numpy(np.unique(first, return_inverse=True)[1].astype(np.int64))


class SharedClasses(nn.Module):
    """From the answers of all teachers to the probabilities of all classes that they know between them.

    Args:
        groups: (A,) group of each class, see `group_classes`; all that a checkpoint holds of it.
        sizes: Number of answers of each teacher, A in all.
    """

    groups: Tensor
    mapping: Tensor

    def __init__(self, groups: Tensor, sizes: Sequence[int]) -> None:
        super().__init__()
        chains, order = linked_classes(groups, sizes).sort(stable=True)
        groups = order.argsort()[groups.cpu()]  # linked groups stand side by side
        self.chain_sizes = chains.unique_consecutive(return_counts=True)[1].tolist()
        """Number of groups of each chain of teachers."""
        self.register_buffer("groups", groups)
        self.register_buffer("mapping", common_scores(groups, sizes), persistent=False)

    def __len__(self) -> int:
        return len(self.mapping)

    @in_full_precision
    def forward(self, answers: Tensor) -> Tensor:
        """Square roots of the groups' probabilities among those they are linked with, (B, A) -> (B, G).

        Those of a chain have the length sqrt(its groups), so that every dimension counts alike.
        """
        scores = answers.float() @ self.mapping.T / TEMPERATURE
        chains = scores.split(self.chain_sizes, 1)
        return torch.cat([F.softmax(chain, 1).sqrt() * chain.shape[1] ** 0.5 for chain in chains], 1)


def rebuild_shared_classes(
    count: object, answer_sizes: Sequence[int], tensors: dict[str, Tensor], source: str
) -> SharedClasses:
    """Shared classes as a learner's repository holds them.

    Raises:
        LearnerError: groups that are missing, or are not `count` groups of as many classes as there are answers.
    """
    answers, groups = sum(answer_sizes), tensors.pop("groups", torch.empty(0))
    is_sound = (
        groups.dtype == torch.long and groups.shape == (answers,) and not tensors and answers <= MAX_SHARED_LOGITS
    )
    if type(count) is not int or not is_sound or groups.unique().tolist() != list(range(count)):
        raise LearnerError(
            f"{source}: its {count!r} shared classes do not fit",
            allowed=f"a number of groups, and for each of its {answers} answers one of them",
            action="save or push the learner again",
        )
    return SharedClasses(groups, answer_sizes)
