"""Distance to BatchNorm statistics: its value, and that hooks live for one block of code only."""

from __future__ import annotations

import pytest
import torch
from pico import pico_teacher
from torch import nn

from hf_free.inversion.batchnorm_statistics import EPS, collected_distances, statistics_distance, statistics_norms


def _distance_by_loop(activations, mean, var):
    total, channels = 0.0, activations.shape[1]
    for c in range(channels):
        values = activations[:, c].double().flatten()
        mu = values.mean().item()
        sigma = (sum((v - mu) ** 2 for v in values.tolist()) / len(values) + EPS) ** 0.5
        stored = var[c].item() + EPS
        total += ((mu - mean[c].item()) ** 2 + (sigma - stored**0.5) ** 2) / stored
    return total / channels


@pytest.mark.parametrize("shape", [(6, 3, 4, 5), (40, 3)])
def test_distance_against_a_loop(shape):
    torch.manual_seed(0)
    activations = 2 * torch.randn(shape) + 1
    mean, var = torch.randn(3), torch.rand(3) + 0.1
    expected = _distance_by_loop(activations, mean, var)
    assert statistics_distance(activations, mean, var).item() == pytest.approx(expected, rel=1e-4)


def test_distance_is_zero_at_the_stored_statistics_and_free_of_scale():
    torch.manual_seed(0)
    activations = torch.randn(50, 4, 3, 3)
    var, mean = torch.var_mean(activations, (0, 2, 3), correction=0)
    assert statistics_distance(activations, mean, var).item() == pytest.approx(0, abs=1e-9)
    far = statistics_distance(activations, mean + 1, 4 * var)
    # layer and statistics scaled alike are as far from each other: one weight serves all layers
    assert statistics_distance(10 * activations, 10 * (mean + 1), 400 * var).item() == pytest.approx(
        far.item(), rel=1e-3
    )


def test_half_precision_activations_are_measured_in_fp32():
    torch.manual_seed(0)
    activations = (100 + torch.randn(64, 2, 8, 8)).to(torch.bfloat16)
    mean, var = torch.zeros(2), torch.ones(2)
    expected = statistics_distance(activations.float(), mean, var)
    assert torch.equal(statistics_distance(activations, mean, var), expected)
    assert expected.dtype == torch.float32


def test_distances_come_from_each_layers_own_input_in_order():
    torch.manual_seed(0)
    first, second = nn.BatchNorm2d(3), nn.BatchNorm2d(5)
    network = nn.Sequential(first, nn.ReLU(), nn.Conv2d(3, 5, 3), second).eval()
    for layer in (first, second):
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.5, 2)
    images = torch.randn(4, 3, 8, 8)
    with collected_distances([first, second]) as distances:
        network(images)
    inner = network[2](network[1](first(images)))
    expected = [
        _distance_by_loop(images, first.running_mean, first.running_var),
        _distance_by_loop(inner.detach(), second.running_mean, second.running_var),
    ]
    assert [d.item() for d in distances] == pytest.approx(expected, rel=1e-4)


def test_gradients_reach_the_pictures_and_not_the_teacher():
    teacher = pico_teacher("conv4")
    images = torch.rand(4, 3, 32, 32, requires_grad=True)
    with collected_distances(teacher.batchnorm_layers()) as distances:
        teacher.logits(images)
    torch.stack(distances).mean().backward()
    assert images.grad.abs().sum() > 0
    assert all(p.grad is None and not p.requires_grad for p in teacher.network.parameters())


def test_hooks_do_not_leak():
    teacher = pico_teacher("resnet")
    layers = teacher.batchnorm_layers()
    with collected_distances(layers) as distances:
        teacher.logits(torch.rand(2, 3, 32, 32))
        assert len(distances) == len(layers)
    teacher.logits(torch.rand(2, 3, 32, 32))
    assert len(distances) == len(layers)  # nothing was added outside the block
    assert not any(layer._forward_pre_hooks for layer in layers)


def test_hooks_do_not_leak_when_the_forward_pass_fails():
    teacher = pico_teacher("conv4")
    layers = teacher.batchnorm_layers()
    with pytest.raises(ValueError, match="allowed: float"), collected_distances(layers):  # noqa: PT012
        assert all(layer._forward_pre_hooks for layer in layers)
        teacher.logits(torch.zeros(2, 4, 32, 32))
    assert not any(layer._forward_pre_hooks for layer in layers)


def test_no_layers_no_distances():
    teacher = pico_teacher("vit")
    with collected_distances(teacher.batchnorm_layers()) as distances:
        teacher.logits(torch.rand(2, 3, 32, 32))
    assert distances == []


@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 5, 5), (40, 8, 16, 16)])
def test_gradient_is_that_of_the_plain_formula(shape):
    torch.manual_seed(0)
    ours = torch.randn(shape).to(memory_format=torch.channels_last if len(shape) == 4 else torch.preserve_format)
    ours.requires_grad_()
    plain = ours.detach().clone().requires_grad_()
    mean, var = torch.randn(shape[1]), torch.rand(shape[1]) + 0.1
    statistics_distance(ours, mean, var).backward()
    dims = [d for d in range(len(shape)) if d != 1]
    variance, average = torch.var_mean(plain, dims, correction=0)
    spread = (((variance + EPS) / (var + EPS)).sqrt() - 1).square()
    ((average - mean).square() / (var + EPS) + spread).mean().backward()
    assert torch.allclose(ours.grad, plain.grad, rtol=1e-4, atol=1e-8)


def test_norms_are_those_of_differences_of_means_and_of_variances():
    torch.manual_seed(0)
    activations, mean, var = 2 * torch.randn(6, 3, 4, 5) + 1, torch.randn(3), torch.rand(3) + 0.1
    channels = [activations[:, c].double().flatten() for c in range(3)]
    means = sum((v.mean() - mean[c]) ** 2 for c, v in enumerate(channels)) ** 0.5
    variances = sum((v.var(correction=0) - var[c]) ** 2 for c, v in enumerate(channels)) ** 0.5
    assert statistics_norms(activations, mean, var).item() == pytest.approx((means + variances).item(), rel=1e-5)


def test_another_distance_is_collected_where_it_is_asked_for():
    teacher = pico_teacher("conv4", size=16)
    layers, pictures = teacher.batchnorm_layers(), torch.rand(4, 3, 16, 16)
    with collected_distances(layers) as plain, collected_distances(layers, statistics_norms) as norms:
        teacher.logits(pictures)
    assert len(plain) == len(norms) == len(layers)
    assert all(one != other for one, other in zip(plain, norms, strict=True))
