"""The meta-generator: shapes and ranges at every size, and each input counts."""

from __future__ import annotations

import pytest
import torch

from hf_free.inversion.generator import CANVAS_EPS, MetaGenerator


@pytest.mark.parametrize(("size", "channels"), [(8, 1), (32, 3), (33, 3), (64, 1), (84, 3), (96, 3)])
def test_pictures_of_any_size_in_the_unit_range(size, channels):
    torch.manual_seed(0)
    generator = MetaGenerator(size, channels, latent_dim=8, width=4)
    pictures = generator(torch.randn(3, 8))
    assert pictures.shape == (3, channels, size, size)
    assert pictures.dtype == torch.float32
    assert 0 <= pictures.min() < pictures.max() <= 1


def test_parameters_of_the_released_generator():
    """free-method.md 1.2: 2.33 M parameters at 32 pixels, nz 256, ngf 64: counted from its layers by hand."""
    generator = MetaGenerator(32, 3, latent_dim=256, width=64)
    linear = (256 + 1) * 128 * 8 * 8
    convolutions = 128 * 128 * 9 + 128 * 64 * 9 + 64 * 3 * 9 + 3
    norms = 2 * (128 + 128 + 64)
    assert sum(p.numel() for p in generator.parameters()) == linear + convolutions + norms
    assert round((linear + convolutions + norms) / 1e6, 2) == 2.33
    assert not list(generator.buffers())  # BatchNorm keeps no running statistics


def test_class_slots_steer_the_picture_only_where_there_are_codes():
    torch.manual_seed(0)
    latents, slots = torch.randn(1, 8).expand(4, -1), torch.tensor([0, 1, 0, 1])
    conditional = MetaGenerator(16, 3, 8, 4, class_slots=2)(latents, slots)
    assert torch.allclose(conditional[0], conditional[2], atol=1e-5)
    assert (conditional[0] - conditional[1]).abs().max() > 1e-2
    unconditional = MetaGenerator(16, 3, 8, 4)(latents, slots)
    assert torch.allclose(unconditional[0], unconditional[1], atol=1e-5)


def test_canvas_is_painted_over():
    torch.manual_seed(0)
    generator = MetaGenerator(16, 3, 8, 4)
    canvas = torch.rand(5, 3, 16, 16)
    with torch.no_grad():
        for parameter in generator.to_picture.parameters():
            parameter.zero_()
    untouched = generator(torch.randn(5, 8), None, canvas)
    assert torch.allclose(untouched, canvas.clamp(CANVAS_EPS, 1 - CANVAS_EPS), atol=1e-5)
    with torch.no_grad():
        generator.to_picture.bias.fill_(8.0)
    painted = generator(torch.randn(5, 8), None, canvas)
    assert painted.min() > 0.95  # black pixels too can be painted over: the canvas's logits stay within 4


def test_every_parameter_and_the_latents_get_a_gradient():
    torch.manual_seed(0)
    generator = MetaGenerator(16, 3, 8, 4, class_slots=3)
    latents = torch.randn(6, 8, requires_grad=True)
    (generator(latents, torch.arange(3).repeat(2)) - torch.rand(6, 3, 16, 16)).square().sum().backward()
    assert latents.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in generator.parameters())
