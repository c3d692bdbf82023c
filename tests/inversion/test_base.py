"""What an inverter aims at."""

from __future__ import annotations

import pytest
import torch
from pico import pico_teacher

from hf_free.config.recipes import Defects
from hf_free.config.sections import FiveConfig
from hf_free.inversion.base import TaskSize, targets_for
from hf_free.inversion.inversion_loss import InversionLoss
from hf_free.runtime.device import Precision

CPU = torch.device("cpu")


def _loss(defects: Defects | None = None, **values: object) -> InversionLoss:
    return InversionLoss(FiveConfig(augment=False, **values), device=CPU, precision=Precision(), defects=defects)


@pytest.mark.parametrize(("count", "classes", "images"), [(5, 5, 10), (9, 4, 8)])
def test_targets_are_all_classes_or_a_subset(count, classes, images):
    teacher = pico_teacher("conv4", size=16, num_classes=count)
    config = FiveConfig(images_per_class=2, max_classes=min(count, classes))
    target = targets_for(teacher, TaskSize.of(config, count), CPU)
    assert len(set(target.classes)) == classes
    assert set(target.classes) <= set(range(count))
    assert list(target.classes) == sorted(target.classes)
    assert torch.bincount(target.labels).tolist() == [2] * classes
    assert len(target.labels) == images
    terms = _loss().terms(torch.rand(images, 3, 16, 16), target, teacher)
    assert set(terms) == {"cross_entropy", "batchnorm"}
    assert all(torch.isfinite(term) for term in terms.values())
