"""Logits in 16 bits against the same in 64: nothing is lost that learning from them asks for."""

from __future__ import annotations

import pytest
import torch
from pico import pico_teacher

from hf_free.data.logit_storage import store_logits
from hf_free.data.logits import CenterPerTeacher, LogitLayout, unanswered_teachers
from hf_free.metalearning.distill import answer_loss
from hf_free.runtime.device import Precision
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.soft_labels import label, teacher_sources


def _centered(rows: torch.Tensor) -> torch.Tensor:
    return rows.double() - rows.double().mean(1, keepdim=True)


def test_ordinary_logits_are_rounded_and_no_more():
    torch.manual_seed(0)
    logits = torch.randn(50, 7) * 100
    assert torch.equal(store_logits(logits), logits.half())


@pytest.mark.parametrize("offset", [3e3, 6e4, 1e5, -7e5, 1e6])
def test_a_shift_of_all_logits_costs_no_digit(offset):
    torch.manual_seed(0)
    logits = torch.randn(50, 7, dtype=torch.float64) * 10
    shifted = (logits + offset).float()
    stored = store_logits(shifted)
    assert stored.dtype == torch.float16
    error = (_centered(stored) - _centered(shifted)).abs().max()
    assert error < 0.02 < (_centered(shifted.half()) - _centered(shifted)).abs().nan_to_num(99).max()


@pytest.mark.parametrize("scale", [1e5, 1e6, 1e20, 1e38])
def test_logits_beyond_the_range_keep_order_and_ratios(scale):
    torch.manual_seed(0)
    logits = torch.rand(50, 7) * scale
    expected = _centered(logits)
    expected = expected / (expected.abs().amax(1, keepdim=True) / 65504).clamp_min(1)
    stored = store_logits(logits)
    torch.testing.assert_close(stored.double(), expected, rtol=1e-3, atol=40)
    assert torch.equal(stored.argmax(1), logits.argmax(1))


def test_rows_stand_for_themselves():
    logits = torch.tensor([[1.0, 2.0, 3.0], [1e5, 0.0, 0.0], [float("inf"), 0.0, 0.0], [float("nan"), 1e9, 0.0]])
    stored = store_logits(logits)
    assert torch.equal(stored[:1], logits[:1].half())
    assert stored[1].isfinite().all()
    assert stored[2:].isnan().all(), "an answer is known whole or not at all"
    assert store_logits(logits[:0]).shape == (0, 3)


def test_a_teacher_of_huge_logits_answers_and_teaches_what_it_teaches_in_small_ones():
    pictures = torch.randint(256, (40, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    small, large = (pico_teacher("conv4", num_classes=3, size=16) for _ in range(2))
    with torch.no_grad():
        large.network.get_classifier().weight.mul_(2**14)
        large.network.get_classifier().bias.mul_(2**14).add_(2**17)
    layout, center = LogitLayout.of([3]), CenterPerTeacher([3])
    rows = [
        label(teacher_sources(TeacherPool.from_teachers([t]), layout), pictures, layout, Precision())
        for t in (small, large)
    ]
    expected, answers = (said.to(torch.device("cpu"), torch.float32) for said in rows)
    with torch.no_grad():
        assert (large.logits(pictures.float() / 255).abs().amax(1) > 65504).all()
    assert not unanswered_teachers(layout, answers)
    direction = torch.cosine_similarity(center(expected.values), center(answers.values))
    assert direction.min() > 0.999
    assert answer_loss(2**14 * expected.values, answers, center)["answers"] < 0.2
