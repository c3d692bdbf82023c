"""Losses of the inversion against loops over pictures, classes and pixels."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from hf_free.inversion.losses import (
    canvas_distance,
    cross_entropy,
    disagreement,
    feature_norm,
    neighbor_norms,
    pairwise_distance,
    similarity_hinge,
    total_variation,
    weighted_sum,
)


def _softmax(row: list[float]) -> list[float]:
    exps = [math.exp(value - max(row)) for value in row]
    return [value / sum(exps) for value in exps]


def _agree(t: list[float], s: list[float]) -> bool:
    return t.index(max(t)) == s.index(max(s))


@pytest.fixture
def verdicts() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of teacher and student on 12 pictures, of which some agree and some do not."""
    torch.manual_seed(0)
    teacher = 2 * torch.randn(12, 4)
    return teacher, teacher + 2 * torch.randn(12, 4)


def test_cross_entropy_against_a_loop():
    torch.manual_seed(0)
    logits, labels = 3 * torch.randn(7, 5), torch.randint(5, (7,))
    expected = sum(
        -math.log(_softmax(row)[label]) for row, label in zip(logits.tolist(), labels.tolist(), strict=True)
    )
    assert cross_entropy(logits, labels).item() == pytest.approx(expected / 7, rel=1e-5)
    assert cross_entropy(logits.bfloat16(), labels).dtype == torch.float32


def test_disagreement_is_minus_the_masked_divergence(verdicts):
    teacher, student = verdicts
    total, agreeing = 0.0, 0
    for t_row, s_row in zip(teacher.tolist(), student.tolist(), strict=True):
        if _agree(t_row, s_row):
            t, s = _softmax(t_row), _softmax(s_row)
            total += sum(a * math.log(a / b) for a, b in zip(t, s, strict=True))
            agreeing += 1
    assert 0 < agreeing < 12  # the mask is put to the test
    assert disagreement(teacher, student).item() == pytest.approx(-total / 12, rel=1e-5)
    assert disagreement(teacher, teacher).item() == pytest.approx(0, abs=1e-6)


def test_released_disagreement_is_entropy_plus_inner_product(verdicts):
    teacher, student = verdicts
    total = 0.0
    for t_row, s_row in zip(teacher.tolist(), student.tolist(), strict=True):
        if _agree(t_row, s_row):
            t, s = _softmax(t_row), _softmax(s_row)
            total += -sum(b * math.log(b) for b in s) + sum(a * b for a, b in zip(t, s, strict=True))
    released = disagreement(teacher, student, of_probabilities=True).item()
    assert released == pytest.approx(total / 12, rel=1e-5)
    assert released != pytest.approx(disagreement(teacher, student).item(), abs=0.1)


def test_disagreement_falls_as_the_student_drifts_from_the_teacher():
    teacher = torch.tensor([[4.0, 0.0, 0.0]])
    near, far = torch.tensor([[3.5, 0.0, 0.0]]), torch.tensor([[0.1, 0.0, 0.0]])
    assert disagreement(teacher, far) < disagreement(teacher, near) < 0
    assert disagreement(teacher, torch.tensor([[0.0, 4.0, 0.0]])) == 0  # another class is named: masked


def test_canvas_distance_by_hand():
    pictures, canvas = torch.tensor([[[[0.0, 0.5]]], [[[1.0, 0.25]]]]), torch.tensor([[[[0.5, 0.5]]], [[[0.0, 0.75]]]])
    assert canvas_distance(pictures, canvas).item() == pytest.approx((0.25 + 0 + 1 + 0.25) / 4)


def test_total_variation_against_a_loop():
    torch.manual_seed(0)
    images = torch.rand(2, 3, 4, 5)
    down, right = [], []
    for picture in images:
        for channel in picture:
            down += [(channel[y + 1, x] - channel[y, x]).item() ** 2 for y in range(3) for x in range(5)]
            right += [(channel[y, x + 1] - channel[y, x]).item() ** 2 for y in range(4) for x in range(4)]
    expected = sum(down) / len(down) + sum(right) / len(right)
    assert total_variation(images).item() == pytest.approx(expected, rel=1e-5)
    assert total_variation(torch.full((1, 3, 4, 4), 0.3)) == 0


def test_pairwise_distance_against_a_loop():
    torch.manual_seed(0)
    features, labels = torch.randn(9, 6), torch.tensor([0, 0, 0, 1, 1, 1, 1, 2, 3])
    distances = [
        1 - F.cosine_similarity(features[i], features[j], dim=0).item()
        for i in range(9)
        for j in range(9)
        if i != j and labels[i] == labels[j]
    ]
    assert len(distances) == 6 + 12
    assert pairwise_distance(features, labels).item() == pytest.approx(sum(distances) / len(distances), rel=1e-5)


def test_pairwise_distance_at_its_ends():
    labels = torch.zeros(2, dtype=torch.long)
    alike, opposite = torch.tensor([[1.0, 2.0], [2.0, 4.0]]), torch.tensor([[1.0, 2.0], [-1.0, -2.0]])
    assert pairwise_distance(alike, labels).item() == pytest.approx(0, abs=1e-6)
    assert pairwise_distance(opposite, labels).item() == pytest.approx(2)
    assert pairwise_distance(opposite, torch.tensor([0, 1])) == 0  # no class has two pictures


def test_weighted_sum_leaves_out_terms_of_weight_zero():
    terms = {"a": torch.tensor(2.0), "b": torch.tensor(float("nan")), "c": torch.tensor(5.0)}
    assert weighted_sum(terms, {"a": 3.0, "b": 0.0, "c": 0.1, "unused": 1.0}).item() == pytest.approx(6.5)


def test_feature_norm_is_minus_the_mean_magnitude():
    features = torch.tensor([[1.0, -2.0, 0.0], [4.0, 0.0, -1.0]])
    assert feature_norm(features).item() == pytest.approx(-8 / 6)


def test_sameness_against_a_loop():
    torch.manual_seed(3)
    features, labels = torch.randn(9, 5), torch.tensor([0, 0, 0, 1, 1, 1, 1, 2, 0])
    total, pairs = 0.0, 0
    for i in range(9):
        for j in range(9):
            if i != j and labels[i] == labels[j]:
                cosine = (features[i] @ features[j] / features[i].norm() / features[j].norm()).item()
                total, pairs = total + max(0.0, 0.8 - (1 - cosine)), pairs + 1
    assert pairs == 12 + 12
    assert 0 < similarity_hinge(features, labels, 0.8).item() < 0.8
    assert similarity_hinge(features, labels, 0.8).item() == pytest.approx(total / pairs, rel=1e-5)


def test_sameness_of_one_picture_and_of_pictures_far_apart():
    alike = torch.ones(4, 3) + 1e-4 * torch.eye(4, 3)
    assert similarity_hinge(alike, torch.zeros(4), 0.3).item() == pytest.approx(0.3, abs=1e-4)
    assert similarity_hinge(torch.eye(4), torch.zeros(4), 0.3).item() == 0  # distance 1 each
    assert similarity_hinge(alike, torch.arange(4), 0.3).item() == 0  # no two of one class
    features = torch.eye(3).add(0.9).requires_grad_()
    similarity_hinge(features, torch.zeros(3), 0.3).backward()
    assert torch.isfinite(features.grad).all()
    assert features.grad.abs().sum() > 0


def test_weighted_sum_without_weights_is_zero_with_a_gradient():
    picture = torch.ones(3, requires_grad=True)
    total = weighted_sum({"a": picture.sum(), "b": picture.prod()}, {"a": 0.0, "b": 0.0})
    total.backward()
    assert total.item() == 0
    assert picture.grad.tolist() == [0, 0, 0]


def test_neighbor_norms_are_four_directions_over_the_whole_batch():
    images = torch.rand(2, 1, 3, 4)
    sums = [0.0] * 4
    for picture in images[:, 0].tolist():
        for y in range(3):
            for x in range(4):
                for place, (dy, dx) in enumerate([(0, 1), (1, 0), (1, 1), (1, -1)]):
                    if y + dy < 3 and 0 <= x + dx < 4:
                        sums[place] += (picture[y][x] - picture[y + dy][x + dx]) ** 2
    assert neighbor_norms(images).item() == pytest.approx(sum(math.sqrt(value) for value in sums), rel=1e-5)
    assert neighbor_norms(torch.ones(1, 3, 4, 4)).item() == 0
