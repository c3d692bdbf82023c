"""FIVE's rivals: each lowers the loss, all recover as many pictures; loss curves and the joint generator by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from benchmark import loss_curves
from pico import pico_teacher
from torch import nn

from hf_free.config.sections import FiveConfig
from hf_free.inversion.base import targets_for
from hf_free.inversion.losses import weighted_sum
from hf_free.inversion.pixels import PixelInverter

SMALL = {"latent_dim": 8, "width": 4, "images_per_class": 4, "augment": False, "canvas": False}


def _five(kind=loss_curves.WatchedFive, *, channels=3, seed=0, **values):
    torch.manual_seed(seed)
    return kind(FiveConfig(**{**SMALL, **values}), image_size=16, channels=channels)


def _peer(kind, *, channels=3, seed=0, **options):
    torch.manual_seed(seed)
    return kind(FiveConfig(**SMALL), image_size=16, channels=channels, **options)


def test_pixels_follow_adam_in_the_teachers_normalized_space():
    teacher, five = pico_teacher("conv4", size=16), _five()
    peer = _peer(PixelInverter, lr=0.1)
    torch.manual_seed(3)
    task = peer.recover(teacher, steps=2)

    torch.manual_seed(3)
    wanted = targets_for(teacher, five.task_size(teacher), five.device)
    low, high = (0 - teacher.mean) / teacher.std, (1 - teacher.mean) / teacher.std
    values = torch.randn(len(wanted.labels), 3, 16, 16).clamp(low, high)
    first, second = torch.zeros_like(values), torch.zeros_like(values)
    for step in (1, 2):
        values.requires_grad_()
        loss = five.loss.total(five.loss.terms(values * teacher.std + teacher.mean, wanted, teacher))
        (gradient,) = torch.autograd.grad(loss, values)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        move = (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        values = (values.detach() - 0.1 * move).clamp(low, high)
    expected = 255 * (values * teacher.std + teacher.mean)
    far = (task.images.float() - expected).abs() > 1
    assert far.float().mean() < 0.01  # where a gradient is almost zero, its sign is rounding


def test_loss_curve_starts_before_the_first_step_and_is_that_of_adapt():
    teacher, five = pico_teacher("conv4", size=16), _five()
    torch.manual_seed(2)
    curve = five.loss_curve(teacher, steps=6)
    assert len(curve) == 7
    for steps in (1, 4):
        torch.manual_seed(2)
        _, _, terms = five.adapt(teacher, steps=steps)
        assert curve[steps - 1] == pytest.approx(weighted_sum(terms, five.loss.weights).item(), rel=1e-5)
    assert len(five.loss_curve(teacher, steps=2)) == 3  # earlier curves do not stay


def test_joint_step_moves_the_generator_by_the_plain_gradient_of_all_teachers():
    teachers = [(i, pico_teacher("conv4", size=16, seed=i)) for i in range(2)]
    five = _five(inner_steps=1, outer_lr=1e-3)
    expected = copy.deepcopy(five.generator)
    torch.manual_seed(4)
    losses = []
    for index, teacher in teachers:
        wanted = targets_for(teacher, five.task_size(teacher), five.device)
        latents = torch.randn(len(wanted.labels), 8)
        terms = five.loss.terms(expected(latents, wanted.labels), wanted, teacher, index)
        losses.append(five.loss.total(terms))
    torch.stack(losses).sum().backward()
    before = copy.deepcopy(five.generator)
    torch.manual_seed(4)
    loss_curves.joint_step(five, teachers)
    for old, new, wanted in zip(before.parameters(), five.generator.parameters(), expected.parameters(), strict=True):
        step = new - old  # Adam's first step: the rate times the gradient's sign
        clear = wanted.grad.abs() > 1e-5
        assert torch.allclose(step[clear], -1e-3 * wanted.grad[clear].sign(), atol=1e-5)


def test_joint_step_is_no_name_for_an_inner_loop():
    with pytest.raises(ValueError, match="inner_steps=5"):
        loss_curves.joint_step(_five(), [])


def test_bare_step_computes_gradients_of_the_generator_only():
    teacher, five = pico_teacher("conv4", size=16, num_classes=3), _five()
    student = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3)).requires_grad_(False)
    labels = targets_for(teacher, five.task_size(teacher), five.device).labels
    loss_curves.bare_step(five, labels, teacher, lambda pictures, _: student(pictures))()
    assert all(p.grad is not None for p in five.generator.parameters())
    assert all(p.grad is None for p in (*teacher.network.parameters(), *student.parameters()))


def test_the_inner_loop_leaves_no_gradients_in_the_learner():
    teacher, five = pico_teacher("conv4", size=16, num_classes=3), _five()
    learner = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3))
    _, _, terms = five.adapt(teacher, 0, lambda pictures, _: learner(pictures))
    assert "adversarial" in terms
    assert all(p.grad is None for p in learner.parameters())


def test_mean_curve_and_steps_to_match():
    mean = loss_curves.mean_curve([[4.0, 2.0, 1.0], [2.0, 2.0, 0.0]])
    assert mean == [3.0, 2.0, 0.5]
    assert loss_curves.steps_to_match(mean, 2.0) == 1
    assert loss_curves.steps_to_match(mean, 3.5) == 0
    assert loss_curves.steps_to_match(mean, 0.4) is None
