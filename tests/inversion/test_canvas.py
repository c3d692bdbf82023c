"""Canvases: what is drawn, and which class each of them goes to."""

from __future__ import annotations

import itertools

import pytest
import torch
from pico import pico_teacher

from hf_free.inversion import canvas
from hf_free.inversion.canvas import best_order, draw_canvases, give_to_classes
from hf_free.runtime.device import Precision


def _labels(classes, each):
    return torch.arange(classes).repeat(each)


def _given(canvases, labels, classes, teacher):
    return give_to_classes(canvases, labels, classes, teacher, Precision())


def _likely(teacher, canvases, labels, classes):
    """Mean log-probability of the labels among the classes."""
    with torch.no_grad():
        logits = teacher.logits(canvases)[:, list(classes)]
    return logits.log_softmax(1).gather(1, labels[:, None]).mean().item()


@pytest.mark.parametrize("seed", range(5))
def test_best_order_against_all_orders(seed):
    scores = torch.randn(6, 3, generator=torch.Generator().manual_seed(seed))
    labels = _labels(3, 2)
    order = best_order(scores, labels)
    assert sorted(order.tolist()) == list(range(6))
    best = max(scores[list(tried), labels].sum().item() for tried in itertools.permutations(range(6)))
    assert scores[order, labels].sum().item() == pytest.approx(best, rel=1e-6)


def test_canvases_go_to_the_classes_they_suit():
    teacher, classes, labels = pico_teacher("conv4", size=16, num_classes=5), (0, 2, 4), _labels(3, 10)
    canvases = draw_canvases(teacher, 30, size=16, channels=3, device=torch.device("cpu"))
    given = _given(canvases, labels, classes, teacher)
    assert torch.equal(given.flatten(1).sort(0).values, canvases.flatten(1).sort(0).values)  # none lost, none new
    gained = _likely(teacher, given, labels, classes) - _likely(teacher, canvases, labels, classes)
    random = [_likely(teacher, canvases[torch.randperm(30)], labels, classes) for _ in range(50)]
    assert gained > 0
    assert _likely(teacher, given, labels, classes) > max(random)


def test_many_canvases_are_shared_out_in_parts(monkeypatch):
    teacher, classes, labels = pico_teacher("conv4", size=16, num_classes=2), (0, 1), _labels(2, 10)
    canvases = draw_canvases(teacher, 20, size=16, channels=3, device=torch.device("cpu"))
    monkeypatch.setattr(canvas, "AT_ONCE", 8)
    given = _given(canvases, labels, classes, teacher)
    for start, end in ((0, 8), (8, 16), (16, 20)):
        part = _given(canvases[start:end], labels[start:end], classes, teacher)
        assert torch.equal(given[start:end], part)


def test_a_teacher_that_says_nothing_leaves_all_canvases_there():
    teacher = pico_teacher("conv4", size=16)
    with torch.no_grad():
        teacher.network.get_classifier().weight.fill_(torch.nan)
    canvases = draw_canvases(teacher, 10, size=16, channels=1, device=torch.device("cpu"))
    assert canvases.shape == (10, 1, 16, 16)
    given = _given(canvases, _labels(5, 2), tuple(range(5)), teacher)
    assert torch.equal(given.flatten(1).sort(0).values, canvases.flatten(1).sort(0).values)
