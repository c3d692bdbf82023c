"""Weights teachers by what an episode's support pictures look like: those trained on similar pictures count more.

A learner of several domains holds answers of teachers that know nothing of the pictures at hand: what a teacher of
photographs says of letters is noise, and drowns out the teachers of letters. For each teacher, the learner's features
of the pictures recovered from it are taken as normally distributed, all with one covariance; then the log-probability
that a picture is one of a teacher's is linear in its features, up to a term that all teachers share (Fisher's linear
discriminant, 1936). Its average over the support pictures weights the teachers' predicted answers. Teachers of one
domain hardly differ in it, and then all count alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hf_free.learner.full_precision import in_full_precision

TEMPERATURE = 20.0
"""Divides the mean log-probability, so that small differences between teachers of one domain do not decide
(docs/experiments)."""


class TeacherGate(nn.Module):
    """Factors of the embedding's dimensions, from an episode's support.

    Args:
        sizes: Number of answers of each teacher, in the embedding's order; the features come last.
        features: Number of features.
        groups: (A,) group of each answer where shared classes stand between answers and features, else None.
    """

    weight: Tensor
    bias: Tensor
    is_known: Tensor
    groups: Tensor | None

    def __init__(self, sizes: Sequence[int], features: int, groups: Tensor | None = None) -> None:
        super().__init__()
        self.sizes, self.features = tuple(sizes), features
        self.register_buffer("groups", groups, persistent=False)  # the learner's shared classes hold them
        self.register_buffer("weight", torch.zeros(len(self.sizes), features))
        self.register_buffer("bias", torch.zeros(len(self.sizes)))
        self.register_buffer("is_known", torch.zeros(len(self.sizes), dtype=torch.bool))

    @torch.no_grad()
    def fit(self, embeddings: Tensor, teachers: Tensor) -> None:
        """Learn from pictures (N, D) of which it is known what teacher each was recovered from, (N,)."""
        seen = embeddings[:, -self.features :].double()
        count, overall = len(self.sizes), seen.mean(0)
        pictures = torch.bincount(teachers, minlength=count)
        sums = seen.new_zeros(count, self.features).index_add_(0, teachers, seen)
        means = sums / pictures.clamp_min(1).unsqueeze(1)
        known = pictures > 0
        weight = solve_shrunk(seen - means[teachers], means - overall) * known.unsqueeze(1)
        self.is_known.copy_(known)
        self.weight.copy_(weight)
        self.bias.copy_(-0.5 * (weight * (means + overall)).sum(1))

    @in_full_precision
    def forward(self, support: Tensor) -> Tensor:
        """Factors (E, D) of the dimensions, which leave the support at a mean squared length of 1.

        Before that scaling, the squared factors average 1 over the teachers whose pictures are known; teachers without
        known pictures, and the features, have a factor of 1; the squared factor of a shared class is the mean over the
        teachers that know it.

        Args:
            support: Embeddings (E, S, D).
        """
        likely = (support[..., -self.features :].mean(1) @ self.weight.T + self.bias) / TEMPERATURE  # (E, T)
        shares = likely.masked_fill(~self.is_known, -torch.inf).softmax(1)
        factors = torch.where(self.is_known, (shares * self.is_known.sum()).sqrt(), 1.0)
        counts = torch.tensor(self.sizes, device=factors.device)
        parts = [factors.repeat_interleave(counts, dim=1)]
        if self.groups is not None:
            parts.append(group_means(parts[0].square(), self.groups).sqrt())
        weights = torch.cat([*parts, factors.new_ones(len(support), self.features)], 1)
        lengths = (support * weights.unsqueeze(1)).square().sum(2).mean(1, keepdim=True).sqrt()
        return weights / lengths.clamp_min(1e-8)  # heads expect lengths near 1, of queries as well


def group_means(values: Tensor, groups: Tensor) -> Tensor:
    """Means of values (E, A) over the columns of each group (A,): (E, G)."""
    count = int(groups.max()) + 1
    sums = values.new_zeros(len(values), count).index_add_(1, groups, values)
    return sums / torch.bincount(groups, minlength=count)


def solve_shrunk(centered: Tensor, right: Tensor) -> Tensor:
    """Solutions (T, D) of `C x = r` for each row r of `right` (T, D), C (D, D) being the shrunk covariance of few
    samples (N, D) of mean zero.

    Ledoit & Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", 2004, section 3.2: the
    samples' covariance is drawn toward a multiple of the identity, and how far is estimated from the samples, so that
    it is little for many samples and nearly all the way for fewer than D.

    Where there are fewer samples than dimensions, only their inner products (N, N) are made, and the solutions follow
    by the Woodbury identity: a Conv-4 at 224 pixels has 12,544 features, and C would take 1.3 GB, several times over.
    """
    count, width = centered.shape
    is_wide = count < width
    square = centered @ centered.T if is_wide else centered.T @ centered
    product = square / count  # of one trace and norm either way
    squares, scale = product.square().sum(), product.diagonal().sum() / width
    spread = (squares - width * scale.square()).clamp_min(1e-30)
    error = (centered.square().sum(1).square().sum() / count - squares) / count
    share = (error / spread).clamp(1e-6, 1.0)
    floor = share * scale.clamp_min(1e-12)
    shifted = (1 - share) * product + floor * torch.eye(len(product)).to(product)
    if not is_wide:
        return torch.linalg.solve(shifted, right.T).T
    inner = torch.linalg.solve(shifted, centered @ right.T)
    return (right - (1 - share) / count * (centered.T @ inner).T) / floor
