"""Frozen classifiers as a backbone."""

from __future__ import annotations

import copy

import pytest
import torch
from pico import pico_teacher
from torch import nn

from hf_free.errors import LearnerError
from hf_free.learner.pooled_backbone import PooledBackbone

IMAGES = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


class OneAtATime:
    """Teachers that are made when they are asked for; remembers for which."""

    def __init__(self, *kinds: str) -> None:
        self.kinds, self.asked = kinds, []

    def __getitem__(self, place: int) -> nn.Module:
        self.asked.append(place)
        return pico_teacher(self.kinds[place], num_classes=3 + place)


def test_it_gives_all_features_then_all_logits():
    first, second = pico_teacher("conv4", num_classes=3), pico_teacher("resnet", num_classes=4)
    widths = [teacher.record.num_features for teacher in (first, second)]
    said = PooledBackbone([first, second], widths, (3, 4))(IMAGES)
    assert torch.equal(said, torch.cat([first(IMAGES)[1], second(IMAGES)[1], first(IMAGES)[0], second(IMAGES)[0]], 1))
    assert not said.requires_grad


def test_what_is_left_out_is_not_given_and_a_teacher_without_any_not_asked():
    teachers = OneAtATime("conv4", "resnet", "vit")
    said = PooledBackbone(teachers, (0, 0, 32), (3, 0, 0))(IMAGES)
    assert said.shape == (3, 35)
    assert set(teachers.asked) == {0, 2}


def test_it_owns_no_weights_and_a_copy_asks_the_same_teachers():
    teacher = pico_teacher("conv4")
    backbone = PooledBackbone([teacher], (teacher.record.num_features,), (0,))
    assert not list(backbone.parameters())
    assert not backbone.state_dict()
    assert copy.deepcopy(backbone).classifiers[0] is teacher


def test_a_teacher_of_another_width_is_refused():
    with pytest.raises(LearnerError, match="teacher 1 has 5 classes"):
        PooledBackbone([pico_teacher("conv4")], (0,), (4,))(IMAGES)
