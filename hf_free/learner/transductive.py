"""Heads that see all queries at once (transductive): support and query features in, the queries' probabilities out.

Where the queries come together and are of the support's classes, they are more accurate than the heads of
`hf_free.learner.heads`, which see one query at a time. Their figures are never compared with inductive ones without
saying so.

All take support features (E, S, D) with labels (E, S) in 0..N-1, and query features (E, Q, D), prepared and weighed
(`Embedding.weigh`), and give (E, Q, N). All compute outside a caller's autocast block, in fp32 at least.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_free.errors import LearnerError
from hf_free.learner.full_precision import in_full_precision
from hf_free.learner.heads import (
    COSINE_SCALE,
    Head,
    LinearClassifier,
    class_means,
    fit_nearest_mean,
    fit_ridge,
    normalize_features,
    scores,
    scores_of_normalized,
)
from hf_free.runtime.given import check_kind, short_form

SOFT_KMEANS_STEPS = 5
"""Rounds of soft k-means; the means have settled by then."""

TRANSPORT_SHARPNESS = 10.0
"""Factor on the squared distances before they become shares: PT-MAP's lambda (Hu et al., "Leveraging the Feature
Distribution in Transfer-Based Few-Shot Learning", 2021, section 4.1)."""

TRANSPORT_RATE, TRANSPORT_ROUNDS = 0.2, 20
"""How far the means move to their new places, and how often: PT-MAP's alpha and number of steps (likewise)."""

SINKHORN_ROUNDS = 200
"""Scalings of columns and rows of a balanced plan; rows sum to 1 after the last, columns almost to their share."""

TransductiveHead = Callable[[Tensor, Tensor, Tensor, int, Head], Tensor]
"""Support features, their labels, query features, number of classes, the inductive head it may stand on."""


def centered(support: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
    """Subtract the common mean of an episode's support and queries from both, and normalize again."""
    support, query = normalize_features(support), normalize_features(query)
    mean = torch.cat([support, query], 1).mean(1, keepdim=True)
    return normalize_features(support - mean), normalize_features(query - mean)


@in_full_precision
def centered_head(support: Tensor, labels: Tensor, query: Tensor, n_way: int, head: Head = fit_ridge) -> Tensor:
    """The inductive head on features without the mean of support and queries."""
    support, query = centered(support, query)
    return scores(head(support, labels, n_way), query).softmax(-1)


@in_full_precision
def soft_kmeans(
    support: Tensor,
    labels: Tensor,
    query: Tensor,
    n_way: int,
    head: Head = fit_nearest_mean,
    *,
    steps: int = SOFT_KMEANS_STEPS,
) -> Tensor:
    """Nearest class mean, by cosine, whose means also take in the queries, softly assigned.

    Ren et al., "Meta-Learning for Semi-Supervised Few-Shot Classification", 2018, section 3.1. Queries of one class
    may be many and those of another few.
    """
    del head  # the nearest mean is part of the method
    support, query = normalize_features(support), normalize_features(query)
    one_hot = F.one_hot(labels, n_way).to(support.dtype)  # (E, S, N)
    classifier = fit_nearest_mean(support, labels, n_way)
    for _ in range(steps):
        shares = scores_of_normalized(classifier, query).softmax(-1)  # (E, Q, N)
        totals = one_hot.transpose(1, 2) @ support + shares.transpose(1, 2) @ query  # (E, N, D)
        classifier = LinearClassifier(COSINE_SCALE * normalize_features(totals), classifier.bias)
    return scores_of_normalized(classifier, query).softmax(-1)


@in_full_precision
def centered_soft_kmeans(
    support: Tensor, labels: Tensor, query: Tensor, n_way: int, head: Head = fit_nearest_mean
) -> Tensor:
    """`soft_kmeans` on features without the mean of support and queries."""
    support, query = centered(support, query)
    return soft_kmeans(support, labels, query, n_way, head)


@in_full_precision
def transport(support: Tensor, labels: Tensor, query: Tensor, n_way: int, head: Head = fit_nearest_mean) -> Tensor:
    """Class means that move toward the queries' shares, which need not be alike for all classes.

    PT-MAP's means (Hu et al. 2021) where the plan has no given column sums: each query is divided over the classes by
    the softmax of its squared distances.
    """
    del head
    return _transport_means(support, labels, query, n_way, lambda plan: plan / plan.sum(-1, keepdim=True))


@in_full_precision
def balanced_transport(
    support: Tensor, labels: Tensor, query: Tensor, n_way: int, head: Head = fit_nearest_mean
) -> Tensor:
    """`transport` that assumes equally many queries of each class: PT-MAP's own plan, by Sinkhorn's scalings."""
    del head
    return _transport_means(support, labels, query, n_way, balanced_plan)


def balanced_plan(kernel: Tensor) -> Tensor:
    """Scale positive (E, Q, N) until each row sums to 1 and each column to Q / N (Sinkhorn; Cuturi 2013)."""
    columns = kernel.shape[1] / kernel.shape[2]
    for _ in range(SINKHORN_ROUNDS):
        kernel = kernel * (columns / kernel.sum(1, keepdim=True))
        kernel = kernel / kernel.sum(2, keepdim=True)
    return kernel


def _transport_means(
    support: Tensor, labels: Tensor, query: Tensor, n_way: int, plan_of: Callable[[Tensor], Tensor]
) -> Tensor:
    support, query = centered(support, query)
    one_hot = F.one_hot(labels, n_way).to(support.dtype)  # (E, S, N)
    means = class_means(support, labels, n_way)
    for _ in range(TRANSPORT_ROUNDS):
        plan = plan_of(_kernel(query, means))  # (E, Q, N)
        totals = one_hot.transpose(1, 2) @ support + plan.transpose(1, 2) @ query  # (E, N, D)
        weights = (one_hot.sum(1) + plan.sum(1)).unsqueeze(-1)  # (E, N, 1)
        means = means + TRANSPORT_RATE * (totals / weights - means)
    return plan_of(_kernel(query, means))


def _kernel(query: Tensor, means: Tensor) -> Tensor:
    """exp(-sharpness * squared distance) of queries (E, Q, D) and means (E, N, D), each query's largest being 1."""
    squared = (means**2).sum(-1).unsqueeze(1) - 2 * query @ means.transpose(1, 2)  # + |query|^2, the same for all N
    return (-TRANSPORT_SHARPNESS * (squared - squared.amin(-1, keepdim=True))).exp()


TRANSDUCTIVE: dict[str, TransductiveHead] = {
    "centered": centered_head,
    "soft-kmeans": soft_kmeans,
    "centered-soft-kmeans": centered_soft_kmeans,
    "transport": transport,
    "balanced-transport": balanced_transport,
}
"""Transductive heads by name."""

IN_WORDS = {
    "centered": "centered by support and queries",
    "soft-kmeans": "soft k-means on the queries",
    "centered-soft-kmeans": "centered soft k-means on the queries",
    "transport": "optimal-transport means",
    "balanced-transport": "balanced optimal-transport means",
}
"""Their names in a table's rows."""

ASSUMES_EQUAL_CLASSES = frozenset({"balanced-transport"})
"""Those that are right only where each class has equally many queries, as in an episode."""


def get_transductive(name: str) -> TransductiveHead:
    """The transductive head of that name.

    Raises:
        LearnerError: an unknown name.
    """
    if not isinstance(name, str) or name not in TRANSDUCTIVE:
        raise LearnerError(f"unknown transductive head {short_form(name)}", allowed=", ".join(TRANSDUCTIVE))
    return TRANSDUCTIVE[name]


def transductive_probabilities(
    name: str, support: Tensor, labels: Tensor, query: Tensor, head: Head = fit_ridge
) -> Tensor:
    """One set of queries, for callers without episodes.

    Args:
        name: Of `TRANSDUCTIVE`.
        support: Features (S, D).
        labels: (S,), 0..N-1; every class occurs.
        query: Features (Q, D), all queries that are to help each other.
        head: The inductive head that `centered` fits.

    Returns:
        (Q, N), rows of sum 1.

    Raises:
        LearnerError: an unknown name, tensors of other shapes, labels of another type or with a class left out.
    """
    _check_features(support, labels, query)
    n_way = int(labels.max()) + 1
    return get_transductive(name)(support[None], labels[None], query[None], n_way, head)[0]


def _check_features(support: Tensor, labels: Tensor, query: Tensor) -> None:
    """Refuse tensors that do not fit each other."""
    tensors = {"support": support, "labels": labels, "query": query}
    for name, tensor in tensors.items():
        check_kind(tensor, name, Tensor, allowed="a torch.Tensor", optional=False, error=LearnerError)
    shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
    fits = support.ndim == query.ndim == 2 and labels.shape == support.shape[:1] and support.shape[1] == query.shape[1]
    if not fits or not len(labels) or not support.is_floating_point() or not query.is_floating_point():
        raise LearnerError(
            f"features that do not go together: {shapes}",
            allowed="support (S, D) and query (Q, D) of floating-point numbers, labels (S,)",
            action="learner.embed(pictures) gives features",
        )
    if not (support.isfinite().all() and query.isfinite().all()):
        raise LearnerError(
            "features that are NaN or infinite",
            allowed="finite features",
            action="learner.embed(pictures) gives features",
        )
    classes = labels.unique()
    if labels.is_floating_point() or labels.dtype == torch.bool or classes.tolist() != list(range(len(classes))):
        raise LearnerError(
            f"labels {short_form(classes.tolist())} of type {labels.dtype}",
            allowed="whole numbers 0..N-1, each of which occurs",
            action="labels.unique(return_inverse=True)[1] numbers them so",
        )
