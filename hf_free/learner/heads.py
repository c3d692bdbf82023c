"""Adaptation heads: support features in, one linear classifier out, for many episodes at once.

Every head works on L2-normalized features and ends in scores `features @ weight.T + bias`. Shapes: E episodes,
S support and Q query pictures, N classes (n_way), D features. Ridge and logistic regression are solved in the span
of the support features (weight = features.T @ alpha), so their cost grows with S and not with D. All compute outside a
caller's autocast block, in fp32 at least.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_free.errors import LearnerError
from hf_free.learner.full_precision import in_full_precision
from hf_free.runtime.given import short_form

COSINE_SCALE = 10.0
"""Factor on the cosine before the softmax (Gidaris & Komodakis, "Dynamic Few-Shot Visual Learning without
Forgetting", 2018, initial value); it sets the confidence, never the prediction."""

RIDGE_PENALTY = 0.3
"""Penalty on the squared weights. Bertinetto et al. ("Meta-learning with differentiable closed-form solvers", 2019)
learn it, from 1.0; ours is the best of 0.1, 0.3, 1, 3 and 10 on validation classes, see docs/experiments."""

LOGISTIC_PENALTY = 1.0
"""Penalty of the logistic regression as in scikit-learn with C=1: sum of losses + 1/2 |weight|^2."""

LOGISTIC_TOLERANCE = 1e-10
"""Share of the objective's initial error that may remain when the logistic regression stops, by Nesterov's bound."""

ANIL_STEPS, ANIL_LR = 5, 0.5
"""Gradient steps on the head alone (Raghu et al., "Rapid Learning or Feature Reuse?", 2020; 5 steps as FREE's
MAML). The rate is high because the inputs have length 1."""


class LinearClassifier(NamedTuple):
    """Linear classifiers on normalized features, one per episode: weight (E, N, D), bias (E, N)."""

    weight: Tensor
    bias: Tensor


Head = Callable[[Tensor, Tensor, int], LinearClassifier]


def normalize_features(features: Tensor) -> Tensor:
    """Scale each feature vector (last dimension) to length 1; a zero vector stays zero."""
    return F.normalize(features, dim=-1, eps=1e-8)


@in_full_precision
def scores(classifier: LinearClassifier, features: Tensor) -> Tensor:
    """Scores of the classes: features (E, Q, D) -> (E, Q, N)."""
    return scores_of_normalized(classifier, normalize_features(features))


@in_full_precision
def scores_of_normalized(classifier: LinearClassifier, features: Tensor) -> Tensor:
    """`scores` of features that have length 1 already: (E, Q, D) -> (E, Q, N)."""
    return features @ classifier.weight.transpose(-1, -2) + classifier.bias.unsqueeze(-2)


def class_means(features: Tensor, labels: Tensor, n_way: int) -> Tensor:
    """Mean feature of each class: features (E, S, D), labels (E, S) in 0..n_way-1 -> (E, N, D); any number per
    class."""
    one_hot = F.one_hot(labels, n_way).to(features.dtype)  # (E, S, N)
    return one_hot.transpose(1, 2) @ features / one_hot.sum(1).unsqueeze(-1)


@in_full_precision
def fit_nearest_mean(features: Tensor, labels: Tensor, n_way: int) -> LinearClassifier:
    """Nearest class mean by cosine (Snell et al., "Prototypical Networks", 2017, with cosine similarity).

    Args:
        features: Support features (E, S, D).
        labels: Class of each, 0..n_way-1, (E, S); every class occurs.
        n_way: Number of classes N.
    """
    means = normalize_features(class_means(normalize_features(features), labels, n_way))
    return LinearClassifier(COSINE_SCALE * means, means.new_zeros(means.shape[:2]))


@in_full_precision
def fit_ridge(features: Tensor, labels: Tensor, n_way: int, penalty: float = RIDGE_PENALTY) -> LinearClassifier:
    """Ridge regression onto one-hot labels with a bias (Bertinetto et al. 2019, R2-D2), in its closed dual form.

    Minimizes sum_i w_i |weight @ x_i + bias - y_i|^2 + penalty (|weight|^2 + |bias|^2), where each class weighs alike
    however many pictures it has: w_i = S / (N pictures of i's class), which is 1 where all have as many. Then
    alpha = (X X' + 1 + penalty / w)^-1 Y, weight = X' alpha, bias = 1' alpha. Scores are scaled by COSINE_SCALE for
    the softmax. Arguments as for `fit_nearest_mean`.
    """
    inputs = normalize_features(features)
    targets = F.one_hot(labels, n_way).to(inputs.dtype)  # (E, S, N)
    kernel = inputs @ inputs.transpose(1, 2) + 1  # (E, S, S); the 1 is the bias as a constant feature
    class_sizes = targets.sum(1, keepdim=True)  # (E, 1, N)
    inverse_weights = (targets * class_sizes).sum(2) * n_way / targets.shape[1]  # (E, S)
    alpha = torch.linalg.solve(kernel + torch.diag_embed(penalty * inverse_weights), targets)
    return LinearClassifier(
        COSINE_SCALE * alpha.transpose(1, 2) @ inputs,  # (E, N, S) @ (E, S, D)
        COSINE_SCALE * alpha.sum(1),
    )


@in_full_precision
def fit_logistic(
    features: Tensor,
    labels: Tensor,
    n_way: int,
    penalty: float = LOGISTIC_PENALTY,
    tolerance: float = LOGISTIC_TOLERANCE,
) -> LinearClassifier:
    """Multinomial logistic regression with a bias, by Nesterov's accelerated gradient from zero.

    Minimizes sum cross-entropy + penalty / 2 (|weight|^2 + bias^2). The objective is strongly convex: k steps leave at
    most (1 - 1 / sqrt(kappa))^k of the first error, kappa = Lipschitz constant / penalty (Nesterov, "Lectures on
    Convex Optimization", 2018, section 2.2), so the number of steps is known beforehand: about 55 for 5 support
    pictures, 120 for 25. Arguments as for `fit_nearest_mean`.
    """
    inputs = normalize_features(features)
    targets = F.one_hot(labels, n_way).to(inputs.dtype)
    kernel = inputs @ inputs.transpose(1, 2) + 1
    # the gradient's Lipschitz constant: largest eigenvalue <= largest row sum, and the softmax's Hessian is <= 1/2
    lipschitz = 0.5 * kernel.abs().sum(-1).amax(-1).view(-1, 1, 1) + penalty
    root = (penalty / lipschitz).sqrt()
    momentum = (1 - root) / (1 + root)  # Nesterov's constant scheme for strongly convex functions
    steps = math.ceil(math.log(1 / tolerance) / -math.log1p(-root.min().item())) if len(root) else 0
    alpha = previous = torch.zeros_like(targets)
    for _ in range(steps):
        ahead = alpha + momentum * (alpha - previous)
        previous = alpha
        alpha = ahead - ((kernel @ ahead).softmax(-1) - targets + penalty * ahead) / lipschitz
    return LinearClassifier(alpha.transpose(1, 2) @ inputs, alpha.sum(1))


@in_full_precision
def fit_anil(
    features: Tensor, labels: Tensor, n_way: int, steps: int = ANIL_STEPS, lr: float = ANIL_LR
) -> LinearClassifier:
    """A few plain gradient steps on the head alone (ANIL), started at the nearest class means (Proto-MAML).

    References: Raghu et al. 2020; Triantafillou et al., "Meta-Dataset", 2020. Arguments as for `fit_nearest_mean`.
    """
    inputs = normalize_features(features)
    targets = F.one_hot(labels, n_way).to(inputs.dtype)
    weight, bias = fit_nearest_mean(inputs, labels, n_way)
    for _ in range(steps):
        logits = inputs @ weight.transpose(1, 2) + bias.unsqueeze(1)
        error = (logits.softmax(-1) - targets) / inputs.shape[1]  # gradient of the mean cross-entropy
        weight = weight - lr * error.transpose(1, 2) @ inputs
        bias = bias - lr * error.sum(1)
    return LinearClassifier(weight, bias)


@in_full_precision
def fit_weighted(
    fit: Head,
    support: Tensor,
    labels: Tensor,
    n_way: int,
    factors: Tensor | None = None,
    whitening: Callable[[Tensor], Tensor] | None = None,
) -> LinearClassifier:
    """Fit a head to weighted features, for use on unweighted ones: the factors move into the head's weights.

    Args:
        fit: The head.
        support: Unit-length support features (E, S, D); factors and whitening should keep their length near 1.
        labels: (E, S).
        n_way: Number of classes N.
        factors: (E, D) of the dimensions, see `hf_free.learner.gating`; None leaves them as they are.
        whitening: A symmetric matrix to multiply by after that; None leaves it out.
    """
    classifier = fit(weigh(support, factors, whitening), labels, n_way)
    weight = classifier.weight if whitening is None else whitening(classifier.weight)
    return LinearClassifier(weight if factors is None else weight * factors.unsqueeze(1), classifier.bias)


def weigh(features: Tensor, factors: Tensor | None, whitening: Callable[[Tensor], Tensor] | None) -> Tensor:
    """Features (E, B, D) multiplied by the factors (E, D) of their dimensions, then whitened."""
    if factors is not None:
        features = features * factors.unsqueeze(1)
    return features if whitening is None else whitening(features)


HEADS: dict[str, Head] = {
    "nearest_mean": fit_nearest_mean,
    "ridge": fit_ridge,
    "logistic": fit_logistic,
    "anil": fit_anil,
}
"""Heads on features by name; `maml`, which adapts the backbone too, lives in `hf_free.learner.maml`."""


def get_head(name: str) -> Head:
    """The head of that name.

    Raises:
        LearnerError: an unknown name, or `maml`, which needs pictures.
    """
    if name == "maml":
        raise LearnerError("head 'maml' adapts the backbone and cannot work on features", allowed=", ".join(HEADS))
    if not isinstance(name, str) or name not in HEADS:
        raise LearnerError(f"unknown head {short_form(name)}", allowed=", ".join([*HEADS, "maml"]))
    return HEADS[name]


def head_on_features(name: str) -> str:
    """The head that scores features: `name` itself, or the nearest mean for `maml`, which changes the network."""
    return "nearest_mean" if name == "maml" else name
