"""Teachers of which no gradient comes back to the pictures."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from pico import pico_teacher
from torch import nn

from hf_free.config.sections import FiveConfig
from hf_free.evaluation.flops import count
from hf_free.evaluation.invertibility import measure_invertibility
from hf_free.inversion.base import Share
from hf_free.inversion.differentiable import NO_GRADIENT, NoGradientError, check_gradient
from hf_free.inversion.five import Five
from hf_free.inversion.learned_pixels import LearnedPixels
from hf_free.teachers.in_memory import as_teacher
from hf_free.training.invert import invert


class Leaves(nn.Module):
    """Its BatchNorm layer is reached by a gradient, its answers are not."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.head = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(torch.from_numpy(self.bn(self.conv(x)).detach().numpy()).mean((2, 3)))


def _teacher():
    torch.manual_seed(0)
    return as_teacher(Leaves().eval(), input_size=(3, 16, 16), mean=[0.5] * 3, std=[0.5] * 3)


def test_only_answers_that_lead_nowhere_are_refused():
    pictures = torch.rand(2, 3, requires_grad=True)
    check_gradient(pictures, 2 * pictures, "a")
    check_gradient(pictures.detach(), torch.rand(2, 3), "a")
    with pytest.raises(NoGradientError, match=NO_GRADIENT):
        check_gradient(pictures, torch.rand(2, 3), "a")


def test_an_inversion_by_itself_is_refused_and_its_backward_pass_costs_nothing():
    for call in (partial(invert, steps=1, images_per_class=2), measure_invertibility):
        with pytest.raises(NoGradientError, match="without detach"):
            call(_teacher())  # numpy has no bf16: it is computed in fp32
    cost = count(_teacher())
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
