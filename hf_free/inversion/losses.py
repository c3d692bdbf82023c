"""Losses of the inversion as plain functions, and their weighted sum with named terms."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the teacher's logits (B, n) to the wanted labels (B,); FREE's one-hot loss."""
    return F.cross_entropy(logits.float(), labels)


def disagreement(teacher_logits: Tensor, student_logits: Tensor, *, of_probabilities: bool = False) -> Tensor:
    """Minus the divergence of the student from the teacher, where both name the same class (FREE's L_adv).

    Minimizing it looks for pictures on which the student is still wrong: Fast-Datafree (Fang et al. 2022),
    BiDf-MKD's boundary queries. Mended form: -mean([argmax t = argmax s] KL(t || s)).

    Args:
        teacher_logits: (B, n).
        student_logits: (B, n).
        of_probabilities: The released code's form, where `kl_div` gets probabilities instead of log-probabilities
            and the arguments in the other order; it equals mean(mask * (H(s) + <s, t>)).
    """
    teacher, student = teacher_logits.float(), student_logits.float()
    agree = (teacher.argmax(1) == student.argmax(1)).float()
    if of_probabilities:
        target = student.softmax(1)
        divergence = F.kl_div(teacher.softmax(1), target, reduction="none").sum(1)
    else:
        divergence = F.kl_div(student.log_softmax(1), teacher.softmax(1), reduction="none").sum(1)
    return -(divergence * agree).mean()


def total_variation(images: Tensor) -> Tensor:
    """Mean squared difference of neighboring pixels of (B, C, H, W) (Mahendran & Vedaldi 2015, beta = 2)."""
    down = (images[..., 1:, :] - images[..., :-1, :]).square().mean()
    right = (images[..., 1:] - images[..., :-1]).square().mean()
    return down + right


def neighbor_norms(images: Tensor) -> Tensor:
    """Sum of the norms of the differences of (B, C, H, W) to their neighbors in four directions, over the whole batch.

    The total variation of DeepInversion's and PURER's public code: below, to the right, and both diagonals.
    """
    images = images.float()
    right = images[..., :-1] - images[..., 1:]
    down = images[..., :-1, :] - images[..., 1:, :]
    falling = images[..., :-1, :-1] - images[..., 1:, 1:]
    rising = images[..., 1:, :-1] - images[..., :-1, 1:]
    return right.norm() + down.norm() + falling.norm() + rising.norm()


def canvas_distance(pictures: Tensor, canvas: Tensor) -> Tensor:
    """Mean squared difference of pictures and the canvas they are painted over, both (B, C, H, W) in [0, 1].

    Ours. A generator that is meta-trained to convince a teacher within five steps learns to paint over everything in
    glaring colors; this keeps of the canvas what the teacher has nothing against.
    """
    return (pictures.float() - canvas).square().mean()


def feature_norm(features: Tensor) -> Tensor:
    """Minus the mean magnitude of the classifier's input (B, D): real pictures excite a network more than noise does.

    The activation loss of DAFL (Chen et al. 2019, eq. 6), as its public code computes it: -mean |f|.
    """
    return -features.float().abs().mean()


def pairwise_distance(features: Tensor, labels: Tensor) -> Tensor:
    """Mean cosine distance between features of different pictures of one class: the diversity within classes.

    Args:
        features: (B, D).
        labels: (B,).

    Returns:
        A scalar in [0, 2]; 0 where no class has two pictures.
    """
    distances, same = _within_class(features, labels)
    return (distances * same).sum() / same.sum().clamp_min(1)


def similarity_hinge(features: Tensor, labels: Tensor, margin: float) -> Tensor:
    """How much closer than a margin the pictures of one class lie: mean over their pairs of max(0, margin - distance).

    It prevents the collapse of a class onto one picture. Contrastive Model Inversion (Fang et al., IJCAI 2021) wants
    each recovered picture told apart from all others, without an end; the hinge (Hadsell et al. 2006, eq. 4,
    unsquared) leaves pairs alone that are as far apart as those of real pictures.

    Args:
        features: (B, D), compared by cosine distance.
        labels: (B,).
        margin: Distance from which on a pair adds no loss.

    Returns:
        A scalar in [0, margin]; 0 where no class has two pictures.
    """
    distances, same = _within_class(features, labels)
    return ((margin - distances).relu() * same).sum() / same.sum().clamp_min(1)


def _within_class(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine distances (B, B) between features, and 1 where two different pictures are of one class."""
    directions = F.normalize(features.float().flatten(1), dim=1)
    same = (labels[:, None] == labels[None, :]).float().fill_diagonal_(0)
    return 1 - directions @ directions.T, same


def weighted_sum(terms: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    """Sum of the terms with a non-zero weight; zero, without a gradient, where a teacher has none of them."""
    weighted = [weights[name] * term for name, term in terms.items() if weights[name]]
    return torch.stack(weighted or [0 * term for term in terms.values()]).sum()
