"""A recovered task: bytes, health, and why a bad one is left out."""

from __future__ import annotations

import re

import pytest
import torch
from pico import pico_teacher

from hf_free.inversion.losses import cross_entropy, pairwise_distance
from hf_free.inversion.task import Health, finish_task, to_uint8


def test_bytes_are_rounded_and_clamped():
    assert to_uint8(torch.tensor([-0.1, 0.0, 0.0019, 0.0021, 0.5, 1.0, 1.2])).tolist() == [0, 0, 0, 1, 128, 255, 255]


def test_health_is_that_of_the_stored_bytes():
    teacher = pico_teacher("conv4", size=16)
    torch.manual_seed(0)
    images, labels = torch.rand(12, 3, 16, 16), torch.arange(12) % 3
    task = finish_task(images, labels, (0, 2, 4), teacher, 5)
    stored = (images * 255).round() / 255
    logits, features = teacher(stored)
    logits = logits[:, [0, 2, 4]]
    right = sum(int(row.argmax() == label) for row, label in zip(logits, labels, strict=True))
    assert task.health.accuracy == pytest.approx(right / 12)
    assert task.health.loss == pytest.approx(cross_entropy(logits, labels).item(), rel=1e-5)
    assert task.health.diversity == pytest.approx(pairwise_distance(features, labels).item(), rel=1e-4)
    assert (task.teacher, task.classes, task.reference) == (5, (0, 2, 4), "pico/conv4")


@pytest.mark.parametrize(
    ("health", "reason"),
    [
        (Health(0.8, 0.5, 0.1), None),
        (Health(0.5, 0.5, 0.1), None),
        (Health(0.49, 0.5, 0.1), r"recognizes 49% of its recovered pictures \(at least 50% are needed\)"),
        (Health(1.0, float("nan"), 0.1), "not finite"),
        (Health(1.0, float("inf"), 0.1), "not finite"),
        (Health(1.0, 0.5, 0.02), None),
        (Health(1.0, 0.5, 0.019), r"nearly one picture \(mean distance 0.019 .* at least 0.02 is needed"),
        (Health(0.0, 0.5, 0.1, "it is too large"), "^it is too large$"),
    ],
)
def test_a_bad_recovery_is_left_out_with_a_reason(health, reason):
    found = health.reason_to_leave_out(0.5, 0.02)
    assert found is None if reason is None else re.search(reason, found)


def test_a_task_is_shown_in_a_line_without_its_numbers():
    task = finish_task(torch.rand(4, 3, 16, 16), torch.arange(4) % 2, (0, 2), pico_teacher("conv4", size=16), 5)
    assert re.fullmatch(r"RecoveredTask\(4 pictures of 3x16x16, 2 classes, '.*'\)", repr(task))
