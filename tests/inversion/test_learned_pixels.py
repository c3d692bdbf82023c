"""PURER's pixels: one Adam for all teachers, the published loss written out, the learner's wish, and what is kept."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from pico import pico_teacher

from hf_free.config.sections import FiveConfig
from hf_free.inversion.learned_pixels import NORM_WEIGHT, LearnedPixels
from hf_free.inversion.losses import neighbor_norms
from hf_free.runtime.random_streams import RandomStreams

SMALL = {"inner_steps": 1, "pixel_lr": 0.25, "images_per_class": 3, "max_classes": 4, "augment": False}
PURER = {"cross_entropy": 1.0, "total_variation": 1e-4, "batchnorm": 0.01}


def _pool() -> list:
    return [(i, pico_teacher("conv4", size=16, seed=i, num_classes=3)) for i in range(2)]


def _met(pool: list, **values: object) -> LearnedPixels:
    pixels = LearnedPixels(FiveConfig(**{**SMALL, **PURER, **values}), image_size=16, streams=RandomStreams(0))
    pixels.meet([teacher.record for _, teacher in pool])
    return pixels


def _values(pixels: LearnedPixels) -> list[torch.Tensor]:
    return [value for name, value in pixels.modules()["pixels"].state_dict().items() if name.endswith("values")]


def _published_loss(values: torch.Tensor, labels: torch.Tensor, network: torch.nn.Module) -> torch.Tensor:
    """CE + 1e-4 TV + 0.01 BatchNorm + 1e-5 norm of normalized pixels, layer by layer."""
    x, statistics = values, torch.zeros(())
    for block in network.blocks:
        x = block.conv(x)
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
        statistics = statistics + (mean - block.bn.running_mean).norm() + (variance - block.bn.running_var).norm()
        x = block.pool(block.act(block.bn(x)))
    logits = network.head(x.flatten(1))
    differences = [values[:, :, :, 1:] - values[:, :, :, :-1], values[:, :, 1:] - values[:, :, :-1]]
    differences += [values[:, :, 1:, 1:] - values[:, :, :-1, :-1], values[:, :, 1:, :-1] - values[:, :, :-1, 1:]]
    variation = sum(difference.norm() for difference in differences)
    return F.cross_entropy(logits, labels) + 1e-4 * variation + 0.01 * statistics + NORM_WEIGHT * values.norm()


def test_a_step_is_adams_on_the_published_loss_for_every_teacher():
    pool = _pool()
    pixels = _met(pool)
    before = [value.clone() for value in _values(pixels)]
    tasks, terms = pixels.step(pool)
    labels = torch.arange(3).repeat(3)
    for (_, teacher), start, value, task in zip(pool, before, _values(pixels), tasks, strict=True):
        moving = start.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(_published_loss(moving, labels, teacher.network), moving)
        low, high = (0 - teacher.mean) / teacher.std, (1 - teacher.mean) / teacher.std
        expected = (start - 0.25 * gradient / (gradient.abs() + 1e-8)).clamp(low, high)  # Adam's first step
        off = (value - expected).abs() > 1e-3
        assert off.float().mean() < 0.01  # where a gradient is almost zero, its sign is rounding
        shown = 255 * (value * teacher.std + teacher.mean)
        assert (task.images.float() - shown).abs().max() <= 0.51
        assert torch.equal(task.labels, labels)
    assert set(terms) == {"cross_entropy", "total_variation", "batchnorm"}


def test_total_variation_is_that_of_the_shifted_pictures():
    pool, shifts = _pool()[:1], range(-2, 3)
    pixels, is_still = _met(pool, augment=True), []
    for _ in range(4):
        start = _values(pixels)[0].clone()
        _, terms = pixels.step(pool)
        possible = [neighbor_norms(start.roll(shift, (2, 3))).item() for shift in itertools.product(shifts, shifts)]
        assert min(abs(terms["total_variation"] - value) for value in possible) < 1e-2
        is_still.append(abs(terms["total_variation"] - neighbor_norms(start).item()) < 1e-2)
    assert not all(is_still)


def test_pixels_become_what_the_teacher_recognizes_and_rest_while_it_is_not_asked():
    pool = _pool()
    pixels = _met(pool, batchnorm=0.0)
    resting = _values(pixels)[1].clone()
    healths = [pixels.step(pool[:1])[0][0].health for _ in range(30)]
    assert healths[-1].loss < 0.7 * healths[0].loss
    assert healths[-1].accuracy > healths[0].accuracy
    assert torch.equal(_values(pixels)[1], resting)


def test_pixels_follow_the_learners_wish():
    pool = _pool()
    plain, asked = _met(pool), _met(pool)
    seen = []

    def wish(live, stream):
        seen.append([(one.teacher, one.images.shape, one.classes) for one in live])
        return 1e6 * sum(one.images.sum() for one in live)

    asked.challenge = wish
    for pixels in (plain, asked):
        pixels.step(pool)
    assert seen == [[(0, (9, 3, 16, 16), (0, 1, 2)), (1, (9, 3, 16, 16), (0, 1, 2))]]
    for one, other in zip(_values(asked), _values(plain), strict=True):
        assert one.mean() < other.mean(), "darker, as wished"


def test_no_wish_changes_nothing():
    pool = _pool()
    plain, asked = _met(pool), _met(pool)
    asked.challenge = lambda live, stream: None
    for pixels in (plain, asked):
        pixels.step(pool)
    assert all(torch.equal(one, other) for one, other in zip(_values(asked), _values(plain), strict=True))


def test_the_classes_of_a_large_head_stay_the_same():
    teacher = pico_teacher("conv4", size=16, num_classes=9)
    pixels = _met([(0, teacher)])
    chosen = {pixels.step([(0, teacher)])[0][0].classes for _ in range(3)}
    assert len(chosen) == 1
    assert len(chosen.pop()) == 4


def test_short_of_memory_a_step_moves_a_part_of_the_pictures():
    pool = _pool()
    pixels = _met(pool)
    pixels.most_images = 4
    before = _values(pixels)[0].clone()
    (task,), _ = pixels.step(pool[:1])
    moved = (_values(pixels)[0] - before).flatten(1).abs().sum(1) > 0
    assert moved.sum() == 4 == len(task.images)
    assert len(task.classes) == 2
    assert task.labels.tolist() == [0, 1, 0, 1]


def test_a_copy_is_recovered_and_the_pixels_stay():
    pool = _pool()
    pixels = _met(pool)
    before = copy.deepcopy(_values(pixels))
    task = pixels.recover(pool[1][1], 1, steps=3)
    assert task.teacher == 1
    assert all(torch.equal(one, other) for one, other in zip(before, _values(pixels), strict=True))


def test_jitter_goes_around_the_edges_once_for_a_batch():
    pool = _pool()
    pixels, shown = _met(pool, augment=True), []
    logits = pool[0][1].logits
    pool[0][1].logits = lambda images: shown.append(images.detach().clone()) or logits(images)
    before = _values(pixels)[0].clone()
    pixels.step(pool[:1])
    teacher = pool[0][1]
    base = before * teacher.std + teacher.mean
    shifts = [(y, x) for y in range(-2, 3) for x in range(-2, 3)]
    assert sum(torch.allclose(shown[0], base.roll(shift, (2, 3)), atol=1e-6) for shift in shifts) == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_stay_possible(channels):
    pool = _pool()
    pixels = LearnedPixels(
        FiveConfig(**{**SMALL, **PURER, "pixel_lr": 5.0}), image_size=16, channels=channels, streams=RandomStreams(0)
    )
    pixels.meet([teacher.record for _, teacher in pool])
    (task, _), _ = pixels.step(pool)
    assert task.images.shape[1] == channels
    teacher = pool[0][1]
    shown = _values(pixels)[0] * teacher.std.mean() + teacher.mean.mean()
    if channels == 1:
        assert shown.min() >= -1e-5
        assert shown.max() <= 1 + 1e-5
