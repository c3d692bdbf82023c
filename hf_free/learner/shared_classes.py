"""Classes that several teachers know: the learner scores each once, beside the classes of all teachers so linked.

A teacher says how likely its own few classes are beside each other, never how likely they are beside another
teacher's. But teachers share classes, and a shared class links them: classes whose logits rise and fall together are
taken for one, no names are asked for, and least squares finds the scores of all classes whose differences within each
teacher come nearest to what that teacher answers. Teachers that no chain of shared classes links stay apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import squareform
from torch import Tensor, nn
from torch.nn import functional as F

from hf_free.learner import LearnerError
from hf_free.learner.clashes import LEAST_PICTURES, MOST_PICTURES, clash_scores
from hf_free.learner.distill import GroupedCentre, places_without
from hf_free.learner.full_precision import in_full_precision

if TYPE_CHECKING:
    from hf_free.learner.distill import AnswerSheet
    from hf_free.learner.meta_learner import MetaLearner
    from hf_free.memory import TaskMemory

ALIKE = 0.85
"""Mean correlation between the classes of two groups from which on they become one, in units of what is to be expected
of one and the same class. On the 100 CIFAR-FS teachers 0.75 serves as well, and 0.85 merges hardly any two classes of
different names (docs/experiments.md). It is stricter than `CLASH`: here one class taken for two loses little, there
two taken for one do."""

TEMPERATURE = 2.0
"""Of the softmax over all classes of linked teachers, which are many more than a teacher's (docs/experiments.md)."""

PENALTY = 1e-3
"""On the squared scores. It decides where no teacher does: the scores of linked teachers have a mean of zero."""

NEVER = -1e9
"""Likeness of two classes that are not one: no mean over two groups with such a pair reaches `ALIKE`."""

MOST_ANSWERS = 4096
"""Answers above which none are shared: it takes memory in proportion to their square and time in proportion to their
cube, here 0.6 GiB and 8 s of one core."""


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
    well. So they are never quite `ALIKE` to each other, and larger teachers decide, if there are any. Classes of one
    teacher are not one, however alike: they have `NEVER`.

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
    general = clash_scores(answers[:: -(-len(answers) // MOST_PICTURES)], sizes)
    scores = torch.where(pictures[:, None] + pictures >= LEAST_PICTURES, own, general) / expected_scores(sizes)
    both_two = (counts[owner][:, None] == 2) & (counts[owner] == 2)
    scores = torch.where(both_two, scores.clamp_max(0.99 * ALIKE), scores)
    return scores.masked_fill(owner[:, None] == owner, NEVER)


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
    width, centre = sum(sizes), GroupedCentre(sizes)
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


def group_classes(scores: Tensor, *, alike: float = ALIKE) -> Tensor:
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


def common_scores(groups: Tensor, sizes: Sequence[int]) -> Tensor:
    """The linear map from all teachers' answers to one score a group of classes, by least squares.

    Minimises, over the scores s, the squared difference between each teacher's centred answers and the centred scores
    of its classes, summed over the teachers, plus `PENALTY` times |s|^2.

    Args:
        groups: (A,) group of each class, see `group_classes`.
        sizes: Number of answers of each teacher, A in all.

    Returns:
        (G, A).
    """
    member = F.one_hot(groups).double()  # (A, G)
    centred = GroupedCentre(sizes).double()(member.T).T
    normal = centred.T @ centred
    normal.diagonal().add_(PENALTY)
    return torch.cholesky_solve(centred.T, torch.linalg.cholesky(normal)).float()


def linked_classes(groups: Tensor, sizes: Sequence[int]) -> Tensor:
    """Which groups a chain of teachers links, each sharing a group with the next.

    Args:
        groups: (A,) group of each class, 0 to G - 1.
        sizes: Number of answers of each teacher, A in all.

    Returns:
        (G,) the number of each group's chain.
    """
    count, teachers = int(groups.max()) + 1, np.arange(len(sizes)).repeat(sizes)
    knows = coo_array((np.ones(len(groups)), (groups.cpu().numpy(), count + teachers)), [count + len(sizes)] * 2)
    chains = connected_components(knows, directed=False)[1][:count]
    return torch.from_numpy(chains.astype(np.int64))


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
    is_sound = groups.dtype == torch.long and groups.shape == (answers,) and not tensors and answers <= MOST_ANSWERS
    if type(count) is not int or not is_sound or groups.unique().tolist() != list(range(count)):
        raise LearnerError(
            f"{source}: its {count!r} shared classes do not fit",
            allowed=f"a number of groups, and for each of its {answers} answers one of them",
            action="save or push the learner again",
        )
    return SharedClasses(groups, answer_sizes)


@torch.no_grad()
def learn_shared_classes(
    learner: MetaLearner, sheet: AnswerSheet, memory: TaskMemory, without: Sequence[int] = ()
) -> SharedClasses | None:
    """Find the classes that teachers share by their answers in the memory.

    Args:
        learner: Trained to predict the answers.
        sheet: Which columns of the memory's answers are whose.
        memory: Pictures with all teachers' answers.
        without: Teachers whose answers the learner has lost.

    Returns:
        None where no two teachers share a class, or where there are too few pictures, or too many answers, to tell.
    """
    if learner.answer_sizes is None or len(memory) < LEAST_PICTURES or sum(learner.answer_sizes) > MOST_ANSWERS:
        return None
    gone = {sheet.starts[teacher] for teacher in without}
    columns = torch.arange(sum(sheet.sizes)).split(list(sheet.sizes))
    kept = torch.cat([part for part in columns if int(part[0]) not in gone])
    pictures, recovered_from = memory.recovered()
    teachers = torch.full((len(memory),), -1)
    teachers[pictures] = places_without(sheet, without)[recovered_from]
    sizes = learner.answer_sizes
    groups = group_classes(likeness(memory.answers[: len(memory)].cpu()[:, kept], sizes, teachers))
    is_shared = int(groups.max()) + 1 < len(groups)
    return SharedClasses(groups, sizes).to(learner.device) if is_shared else None
