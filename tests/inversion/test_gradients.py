"""One sick teacher among healthy ones: each teacher's gradient counts as one of several, healthy ones to the bit."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from pico import pico_teacher

from hf_free.config.sections import FiveConfig
from hf_free.inversion.five import Five
from hf_free.inversion.gradients import MAX_RATIO, WINDOW, comparable_scales, joint_norm

CONFIG = {"latent_dim": 8, "width": 4, "images_per_class": 3, "augment": False, "canvas": False, "inner_steps": 2}


def _five() -> Five:
    torch.manual_seed(0)
    return Five(FiveConfig(**CONFIG), image_size=16)


def _healthy(seed: int):
    return pico_teacher("conv4", size=16, num_classes=3, seed=seed)


def _without_variances(seed: int):
    teacher = _healthy(seed)
    for layer in teacher.batchnorm_layers():
        layer.running_var.zero_()
    return teacher


def _gradients(five: Five, teachers) -> list[torch.Tensor]:
    """Each teacher's outer gradient as one long vector; consumes random numbers as an outer step does."""
    found = []
    for index, teacher in enumerate(teachers):
        own = [torch.zeros_like(p) for p in five.generator.parameters()]
        five.adapt(teacher, index, gradients=own)
        found.append(torch.cat([g.flatten() for g in own]))
    return found


def _taken(five: Five) -> torch.Tensor:
    """The gradient of the first outer step, which Adam's first moment holds half of."""
    states = [five.optimizer.state[p]["exp_avg"] for p in five.generator.parameters()]
    return 2 * torch.cat([state.flatten() for state in states])


def _after_a_step(teachers) -> tuple[list[torch.Tensor], torch.Tensor]:
    five, other = _five(), _five()
    torch.manual_seed(1)
    gradients = _gradients(other, teachers)
    torch.manual_seed(1)
    five.step(list(enumerate(teachers)))
    return gradients, _taken(five)


def test_gradients_of_healthy_teachers_are_added_as_they_are():
    gradients, taken = _after_a_step([_healthy(seed) for seed in (1, 2, 3)])
    total = torch.zeros_like(gradients[0])
    for gradient in gradients:
        total += gradient
    assert torch.equal(taken, total)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_sick_teacher_counts_as_one_of_the_others(place, caplog):
    teachers = [_healthy(seed) for seed in (1, 2)]
    teachers.insert(place, _without_variances(3))
    with caplog.at_level(logging.WARNING):
        gradients, taken = _after_a_step(teachers)
    norms = [gradient.norm().item() for gradient in gradients]
    assert norms[place] > 1e3 * sorted(norms)[1], "the sick one would drown the others"
    scales = [1.0, 1.0, 1.0]
    scales[place] = sorted(norms)[1] / norms[place]
    expected = sum(gradient * scale for gradient, scale in zip(gradients, scales, strict=True))
    torch.testing.assert_close(taken, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())
    said = [record.getMessage() for record in caplog.records if "the gradient of" in record.getMessage()]
    assert len(said) == 1, "said once"


def test_alone_in_a_step_it_is_measured_by_earlier_steps():
    five, healthy = _five(), _healthy(1)
    for _ in range(3):
        five.step([(0, healthy)])
    usual = sorted(five.optimizer.param_groups[0]["teacher_norms"])[1]
    resumed = _five()
    resumed.load_state_dict(copy.deepcopy(five.state_dict()))
    before = _taken(resumed) / 2
    resumed.step([(1, _without_variances(2))])
    moved = _taken(resumed) - before  # Adam's moment is half the old one and half the new gradient
    assert moved.norm().item() == pytest.approx(usual, rel=1e-3)


def test_scales_by_hand():
    assert comparable_scales([1.0, 2.0, 3.0], []) == [1.0, 1.0, 1.0]
    assert comparable_scales([1.0, MAX_RATIO], []) == [1.0, 1.0]
    assert comparable_scales([1.0, 1e6], []) == [1.0, 1e-6], "of two the smaller is the usual one"
    assert comparable_scales([1e6, 1e6, 2.0], [2.0, 4.0, 2.0]) == [2e-6, 2e-6, 1.0]
    assert comparable_scales([float("nan"), float("inf"), 3.0], []) == [0.0, 0.0, 1.0]
    assert comparable_scales([0.0, 0.0, 5.0], []) == [1.0, 1.0, 1.0], "a gradient of 0 is no measure"
    assert comparable_scales([0.0], []) == [1.0]
    assert comparable_scales([float("nan")], []) == [0.0]
    assert comparable_scales([100.0], [1e9] + [1.0] * WINDOW) == [0.01], "the last ones of a window"


def test_joint_norm_is_that_of_one_long_vector():
    torch.manual_seed(0)
    tensors = [torch.randn(3, 4), torch.randn(5)]
    assert joint_norm(tensors) == pytest.approx(torch.cat([t.flatten() for t in tensors]).norm().item())
    assert not joint_norm([*tensors, torch.tensor([float("nan")])]) < float("inf")
