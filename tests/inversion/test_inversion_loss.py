"""The inversion loss: its weights by name, and that statistics count as far as pictures are recognized."""

from __future__ import annotations

import math

import pytest
import torch

from hf_free.config.recipes import Defects
from hf_free.config.sections import INVERSION_TERMS, FiveConfig
from hf_free.inversion.inversion_loss import InversionLoss
from hf_free.runtime.device import Precision

CPU = torch.device("cpu")


def _loss(defects: Defects | None = None, **values: object) -> InversionLoss:
    return InversionLoss(FiveConfig(augment=False, **values), device=CPU, precision=Precision(), defects=defects)


def test_every_term_has_the_weight_of_its_name():
    weights = _loss(batchnorm=7.0, adversarial=0.25).weights
    assert tuple(weights) == INVERSION_TERMS
    assert (weights["batchnorm"], weights["adversarial"], weights["cross_entropy"]) == (7.0, 0.25, 1.0)


@pytest.mark.parametrize(("first", "share"), [(True, math.exp(-2.0)), (False, 1.0)])
def test_statistics_count_as_far_as_pictures_are_recognized(first, share):
    loss = _loss(batchnorm=10.0, recognition_first=first)
    terms = {"cross_entropy": torch.tensor(2.0, requires_grad=True), "batchnorm": torch.tensor(0.5)}
    total = loss.total(terms)
    assert total.item() == pytest.approx(2.0 + share * 10.0 * 0.5)
    total.backward()
    assert terms["cross_entropy"].grad == 1  # the factor is no way to lower the loss
