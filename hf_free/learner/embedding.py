"""From predicted answers to the space that new classes are told apart in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from hf_free.learner.shared_classes import SharedClasses


def hellinger_embedding(logits: Tensor, sizes: Sequence[int], temperature: float = 1.0) -> Tensor:
    """Square roots of each teacher's probabilities, side by side: (B, A) -> (B, A).

    Euclidean distance between such vectors is the Hellinger distance between the teachers' verdicts, summed over
    the teachers (Hellinger kernel: Jebara et al., "Probability Product Kernels", 2004), so that a teacher that is
    unsure about a picture says little and one that is certain cannot drown the others.
    """
    if len(set(sizes)) == 1:  # one tensor operation instead of one a teacher
        return F.softmax(logits.unflatten(1, (len(sizes), sizes[0])) / temperature, -1).sqrt().flatten(1)
    parts = [F.softmax(part / temperature, 1).sqrt() for part in logits.split(list(sizes), 1)]
    return torch.cat(parts, 1)


def joint_embedding(
    answers: Tensor, features: Tensor, sizes: Sequence[int], shared: SharedClasses | None = None
) -> Tensor:
    """Predicted answers and the features they are made of, side by side, each of the length sqrt(its dimensions).

    Many teachers' answers tell new classes apart better than features do, a few teachers' answers worse, since they
    have few dimensions; when each dimension weighs alike, both cases are served (docs/experiments). So do the
    probabilities of the classes that teachers share, between the two, where there are any.

    Args:
        answers: (B, A) predicted logits.
        features: (B, D) the backbone's.
        sizes: Number of answers of each teacher.
        shared: Finds the probabilities of shared classes, G of them; None leaves them out.

    Returns:
        (B, A + G + D).
    """
    parts = [hellinger_embedding(answers.float(), sizes), features.float()]
    if shared is not None:
        parts.insert(1, shared(answers))
    return torch.cat([F.normalize(part, dim=1, eps=1e-8) * part.shape[1] ** 0.5 for part in parts], 1)
