"""Which teachers an episode is about: those whose pictures its support pictures look like count more.

A learner of several domains holds answers of teachers that know nothing of the pictures at hand: what a teacher of
photographs says of letters is chance, and drowns what the teachers of letters say. For each teacher, the embeddings of
the pictures recovered from it are taken as normally distributed, all with one covariance, so that the log-probability
that a picture is one of a teacher's is linear in its embedding (Fisher's linear discriminant, 1936). Averaged over the
support pictures it weighs the teachers' blocks of the embedding. Teachers of one domain hardly differ in it, and then
every one counts alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hf_free.learner.distill import AnswerSheet
from hf_free.memory import NO_CLASS, TaskMemory

if TYPE_CHECKING:
    from hf_free.learner.meta_learner import MetaLearner

TEMPERATURE = 20.0
"""Divides the mean log-probability, so that small differences between teachers of one domain do not decide; 10 to 40
are alike (docs/experiments.md)."""

SHRINKAGE = 0.01
"""Share of the mean variance that is added to each, so that the covariance of few pictures can be inverted."""

MOST = 4096
"""Recovered pictures it is learned from, at most."""


class Relevance(nn.Module):
    """Weights of the embedding's dimensions, from an episode's support.

    Args:
        sizes: Number of answers of each teacher, in the embedding's order; the dimensions after them belong to none.
        width: Dimensions D of the embedding.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, sizes: Sequence[int], width: int) -> None:
        super().__init__()
        self.sizes, self.rest = tuple(sizes), width - sum(sizes)
        self.register_buffer("weight", torch.zeros(len(sizes), width))
        self.register_buffer("bias", torch.zeros(len(sizes)))

    @torch.no_grad()
    def fit(self, embeddings: Tensor, teachers: Tensor) -> None:
        """Learn from pictures (N, D) of which it is known what teacher each was recovered from, (N,).

        A teacher without pictures is taken to have those of all.
        """
        count, overall = len(self.sizes), embeddings.mean(0)
        shown = torch.bincount(teachers, minlength=count).unsqueeze(1)
        sums = embeddings.new_zeros(count, embeddings.shape[1]).index_add_(0, teachers, embeddings)
        means = torch.where(shown > 0, sums / shown.clamp_min(1), overall)
        within = embeddings - means[teachers]
        covariance = within.T @ within / max(1, len(embeddings) - 1)
        covariance.diagonal().add_(SHRINKAGE * covariance.diagonal().mean() + 1e-8)
        weight = torch.linalg.solve(covariance, (means - overall).T).T
        self.weight.copy_(weight)
        self.bias.copy_(-0.5 * (weight * (means + overall)).sum(1))

    def forward(self, support: Tensor) -> Tensor:
        """Factors (E, D) of the dimensions, whose squares are 1 on average over the teachers.

        Args:
            support: Embeddings (E, S, D).
        """
        likely = (support.mean(1) @ self.weight.T + self.bias) / TEMPERATURE  # (E, T)
        factors = (likely.softmax(1) * len(self.sizes)).sqrt()
        counts = torch.tensor(self.sizes, device=factors.device)
        by_answer = factors.repeat_interleave(counts, dim=1)
        return torch.cat([by_answer, by_answer.new_ones(len(support), self.rest)], 1)


def learn_relevance(
    learner: MetaLearner, sheet: AnswerSheet, memory: TaskMemory, without: Sequence[int] = ()
) -> Relevance | None:
    """Learn from the pictures in the memory, through the learner as it is, which teachers they came from.

    Args:
        learner: Trained; it embeds the pictures.
        sheet: Which columns of its answers are whose.
        memory: With the pictures recovered in this run.
        without: Teachers whose answers the learner has lost.

    Returns:
        None where there is nothing to tell apart: a learner without answers, or pictures of fewer than two teachers.
    """
    if learner.answer_sizes is None or not memory.classes:
        return None
    starts = [sum(sheet.sizes[:group]) for group in range(len(sheet.sizes))]  # those of an old learner's teachers too
    gone = {sheet.starts[teacher] for teacher in without}
    kept = [start for start in starts if start not in gone]
    place = torch.tensor([kept.index(start) if start in kept else -1 for start in sheet.starts])
    place_of_class = place[[key.teacher for key in memory.classes]]
    held = memory.class_ids[: len(memory)].cpu()
    recovered = (held != NO_CLASS).nonzero().flatten()
    recovered = recovered[place_of_class[held[recovered]] >= 0]
    chosen = recovered[torch.linspace(0, len(recovered) - 1, min(MOST, len(recovered))).long()]
    teachers = place_of_class[held[chosen]]
    if len(teachers.unique()) < 2:
        return None
    embeddings = learner.embed(memory.images[chosen.to(memory.device)]).cpu()
    relevance = Relevance(learner.answer_sizes, embeddings.shape[1])
    relevance.fit(embeddings, teachers)
    return relevance.to(learner.device)
