"""A fresh generator for each teacher."""

from __future__ import annotations

import pytest
import torch
from benchmark import loss_curves
from pico import pico_teacher

from hf_free.config.sections import FiveConfig
from hf_free.inversion.base import targets_for
from hf_free.inversion.losses import weighted_sum
from hf_free.inversion.per_teacher_generator import PerTeacherGenerator
from hf_free.inversion.pixels import PixelInverter

SMALL = {"latent_dim": 8, "width": 4, "images_per_class": 4, "augment": False, "canvas": False}


def _five(kind=loss_curves.WatchedFive, *, channels=3, seed=0, **values):
    torch.manual_seed(seed)
    return kind(FiveConfig(**{**SMALL, **values}), image_size=16, channels=channels)


def _peer(kind, *, channels=3, seed=0, **options):
    torch.manual_seed(seed)
    return kind(FiveConfig(**SMALL), image_size=16, channels=channels, **options)


def _loss_of(five, teacher, task):
    """The inversion loss of a finished task's pictures."""
    wanted = targets_for(teacher, five.task_size(teacher), five.device)
    assert torch.equal(task.labels, wanted.labels)
    return weighted_sum(five.loss.terms(task.images / 255, wanted, teacher), five.loss.weights).item()


@pytest.mark.parametrize("method", ["fresh", "pixels"])
def test_more_steps_lower_the_loss(method):
    teacher, five = pico_teacher("conv4", size=16), _five()
    peer = _peer({"fresh": PerTeacherGenerator, "pixels": PixelInverter}[method])
    losses = []
    for steps in (1, 60):
        torch.manual_seed(1)
        losses.append(_loss_of(five, teacher, peer.recover(teacher, steps=steps)))
    assert losses[1] < 0.85 * losses[0]


@pytest.mark.parametrize("channels", [1, 3])
def test_all_methods_recover_as_many_pictures_of_the_same_classes(channels):
    teacher, five = pico_teacher("conv4", size=16, num_classes=3, in_chans=3), _five(channels=channels)
    tasks = [
        five.recover(teacher, 7),
        _peer(PerTeacherGenerator, channels=channels).recover(teacher, 7, steps=2),
        _peer(PixelInverter, channels=channels).recover(teacher, 7, steps=2),
    ]
    for task in tasks:
        assert task.images.shape == (12, channels, 16, 16)
        assert task.labels.bincount().tolist() == [4, 4, 4]
        assert task.teacher == 7
        assert task.soft_labels.shape == (12, 3)


def test_a_fresh_generator_has_the_first_weights_of_the_public_codes():
    peer = _peer(PerTeacherGenerator)
    peer.five.renew(3)
    for name, weights in peer.five.generator.state_dict().items():
        if name.endswith("bias"):
            assert not weights.any(), name
        elif name == "codes":  # of the classes, which those codes have none of
            assert weights.std().item() == pytest.approx(1, rel=0.2)
        elif weights.dim() == 1:  # BatchNorm's
            assert 0 < (weights - 1).abs().max() < 0.1, name
        else:
            assert weights.std().item() == pytest.approx(0.02, rel=0.2), name


def test_a_fresh_generator_forgets_the_one_before():
    teacher, peer = pico_teacher("conv4", size=16), _peer(PerTeacherGenerator)
    tasks = []
    for _ in range(2):
        torch.manual_seed(5)
        tasks.append(peer.recover(teacher, steps=3))
        with torch.no_grad():
            for parameter in peer.five.generator.parameters():
                parameter.fill_(0.5)
    assert torch.equal(tasks[0].images, tasks[1].images)
