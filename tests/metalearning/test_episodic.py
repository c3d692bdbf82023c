"""What the ways of learning by episodes share: the loss they distill with, and how long they replay."""

from __future__ import annotations

import pytest
import torch

from hf_free.metalearning.episodic import distillation_loss


def test_the_loss_is_the_divergence_from_the_teacher():
    logits, soft = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[0.7, 0.3], [0.4, 0.6]])
    expected = sum(
        (p * (p.log() - q.log())).sum() for p, q in zip(soft, logits.softmax(1), strict=True)
    ) / len(logits)  # fmt: skip
    torch.testing.assert_close(distillation_loss(logits, soft), expected)
    assert distillation_loss(soft.log(), soft).item() == pytest.approx(0.0, abs=1e-7)


def test_a_temperature_softens_both():
    logits, soft = torch.randn(3, 4), torch.randn(3, 4).softmax(1)
    softened = (soft.log() / 2).softmax(1)
    torch.testing.assert_close(
        distillation_loss(logits, soft, temperature=2.0), distillation_loss(logits / 2, softened)
    )


def test_the_released_form_of_probabilities_has_a_constant_gradient():
    """t (log t - s): its gradient with respect to s is -t over all numbers, wherever s is."""
    soft = torch.tensor([[0.7, 0.3], [0.4, 0.6]])
    logits = torch.randn(2, 2)
    expected = (soft * (soft.log() - logits.softmax(1))).mean()
    torch.testing.assert_close(distillation_loss(logits, soft, of_probabilities=True), expected)
