"""Muon against singular value decompositions, and its division of labour with AdamW."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from hf_free.metalearning.muon import COEFFICIENTS, MOMENTUM, Muon, is_matrix, orthogonalize


@pytest.mark.parametrize("shape", [(8, 40), (40, 8), (16, 16)])
def test_singular_values_come_near_one_and_vectors_stay(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, s, v = torch.linalg.svd(orthogonalize(matrix), full_matrices=False)
    assert s.min() > 0.6
    assert s.max() < 1.3
    wanted_u, _, wanted_v = torch.linalg.svd(matrix, full_matrices=False)
    assert torch.allclose(u @ v, wanted_u @ wanted_v, atol=1e-6)  # the polar factor is that of the matrix itself


@pytest.mark.parametrize("shape", [(8, 40), (40, 8), (64, 576)])
def test_iterations_on_the_gram_matrix_are_those_on_the_matrix(shape: tuple[int, int]) -> None:
    falling = torch.logspace(0, -4, shape[1])  # singular values of many sizes, as a gradient's
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * falling
    a, b, c = COEFFICIENTS
    x = matrix.double() / matrix.double().norm()
    for _ in range(5):
        gram = x @ x.T
        x = a * x + b * gram @ x + c * gram @ gram @ x
    torch.testing.assert_close(orthogonalize(matrix).double(), x, atol=1e-4, rtol=1e-3)


def test_scale_of_the_gradient_does_not_matter() -> None:
    matrix = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(orthogonalize(matrix), orthogonalize(1e3 * matrix), atol=1e-4)


def test_depthwise_kernels_embeddings_and_vectors_are_no_matrices() -> None:
    assert is_matrix(nn.Linear(3, 4).weight)
    assert is_matrix(nn.Conv2d(3, 4, 3).weight)
    assert not is_matrix(nn.Conv2d(4, 4, 3, groups=4).weight)
    assert not is_matrix(nn.Linear(3, 4).bias)
    assert not is_matrix(torch.zeros(1, 5, 8))


def test_steps_are_those_of_the_two_rules_written_out() -> None:
    """Two steps: matrices by momentum and orthogonalisation, the rest as torch.optim.AdamW does it."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(32, 5))
    other = copy.deepcopy(network)
    ours = Muon(network.parameters(), matrix_lr=0.1, lr=0.01, weight_decay=0.5)
    adamw = torch.optim.AdamW([p for p in other.parameters() if p.ndim == 1], lr=0.01, weight_decay=0.5)
    momenta = [torch.zeros_like(p) for p in other.parameters()]
    for seed in range(2):
        pictures = torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
        for net in (network, other):
            net.zero_grad()
            net(pictures).square().sum().backward()
        ours.step()
        adamw.step()
        with torch.no_grad():
            for parameter, momentum in zip(other.parameters(), momenta, strict=True):
                if parameter.ndim > 1:
                    momentum.copy_(MOMENTUM * momentum + parameter.grad)
                    flat = (parameter.grad + MOMENTUM * momentum).flatten(1)
                    step = orthogonalize(flat).view_as(parameter) * max(1, flat.shape[0] / flat.shape[1]) ** 0.5
                    parameter.copy_(parameter * (1 - 0.1 * 0.5) - 0.1 * step)
    for mine, wanted in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.allclose(mine, wanted, atol=1e-6)


def test_state_survives_saving() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(4, 4)
    optimizer = Muon(layer.parameters(), matrix_lr=0.1, lr=0.01, weight_decay=0.0)
    layer(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    twin = copy.deepcopy(layer)
    restored = Muon(twin.parameters(), matrix_lr=0.1, lr=0.01, weight_decay=0.0)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for net, opt in ((layer, optimizer), (twin, restored)):
        opt.zero_grad()
        net(torch.arange(8.0).view(2, 4)).square().sum().backward()
        opt.step()
    assert torch.equal(layer.weight, twin.weight)
    assert torch.equal(layer.bias, twin.bias)
