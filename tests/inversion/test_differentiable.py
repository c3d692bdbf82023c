"""Teachers of which no gradient comes back to the pictures."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from pico import pico_teacher
from torch import nn

from hf_free.config.sections import FiveConfig
from hf_free.errors import TeacherError
from hf_free.evaluation.flops import count
from hf_free.evaluation.invertibility import measure_invertibility
from hf_free.inversion.base import Share
from hf_free.inversion.differentiable import NO_GRADIENT, NoGradientError, check_gradient
from hf_free.inversion.five import Five
from hf_free.inversion.learned_pixels import LearnedPixels
from hf_free.teachers.in_memory import as_teacher
from hf_free.teachers.loader import try_out
from hf_free.training.invert import invert
from hf_free.training.pool import pool


class Leaves(nn.Module):
    """Its BatchNorm layer is reached by a gradient, its answers are not."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.head = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(torch.from_numpy(self.bn(self.conv(x)).detach().numpy()).mean((2, 3)))


def _teacher(kind=Leaves):
    torch.manual_seed(0)
    return as_teacher(kind().eval(), input_size=(3, 16, 16), mean=[0.5] * 3, std=[0.5] * 3)


class Infers(Leaves):
    """Leaves torch's graph another way."""

    def forward(self, x):
        with torch.inference_mode():
            return self.head(self.bn(self.conv(x)).mean((2, 3)))


class Breaks(Leaves):
    """Its way back raises."""

    def forward(self, x):
        maps = self.conv(x)
        if maps.requires_grad:
            maps.register_hook(lambda gradient: 1 / 0)
        return self.head(self.bn(maps).mean((2, 3)))


def test_only_answers_that_lead_nowhere_are_refused():
    pictures = torch.rand(2, 3, requires_grad=True)
    check_gradient(pictures, 2 * pictures, "a")
    check_gradient(pictures.detach(), torch.rand(2, 3), "a")
    with pytest.raises(NoGradientError, match=NO_GRADIENT):
        check_gradient(pictures, torch.rand(2, 3), "a")


@pytest.mark.parametrize("kind", [Leaves, Infers])
def test_an_inversion_by_itself_is_refused_and_its_backward_pass_costs_nothing(kind):
    for call in (partial(invert, steps=1, images_per_class=2), measure_invertibility):
        with pytest.raises(NoGradientError, match="without detach"):
            call(_teacher(kind))  # numpy has no bf16: it is computed in fp32
    cost = count(_teacher(kind))
    assert cost.forward_flops > 0
    assert cost.backward_flops == 0


@pytest.mark.parametrize("kind", [Five, LearnedPixels])
def test_in_a_run_the_others_are_inverted(kind):
    config = FiveConfig(images_per_class=2, inner_steps=2, width=8)
    inverter = kind(config, image_size=16)
    other = pico_teacher("conv4", size=16, num_classes=3)
    tasks, _ = inverter.step_shares([Share([(0, _teacher()), (1, other)])])
    assert [task.health.problem for task in tasks] == [NO_GRADIENT, None]
    assert "leave it out" in tasks[0].health.way_out
    assert [len(task.images) for task in tasks] == [0, 6]


def test_what_raises_on_the_way_back_names_the_teacher():
    for call in (partial(invert, steps=1, images_per_class=2), measure_invertibility, lambda one: count(try_out(one))):
        with pytest.raises(TeacherError, match=r"\(in memory\) fails when it is asked: ZeroDivisionError"):
            call(_teacher(Breaks))


def test_a_pooled_learner_keeps_one_that_cannot_be_inverted(caplog):
    made = pool([_teacher(), pico_teacher("conv4", size=16, num_classes=3)], rounds=1)
    assert len(made.record.teachers) == 2
    said = [message for message in caplog.messages if "no pictures are recovered" in message]
    assert said == [f"no pictures are recovered from (in memory): {NO_GRADIENT}"]
