"""A convolution of enlarged maps, computed at the size that they had."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hf_free.inversion.upsampling_conv import UpsamplingConv2d, four_kernels


def plain(conv: nn.Conv2d) -> nn.Sequential:
    """What it stands for, with its weights."""
    slow = nn.Conv2d(conv.in_channels, conv.out_channels, 3, padding=1, bias=False)
    slow.load_state_dict(conv.state_dict())
    return nn.Sequential(nn.Upsample(scale_factor=2), slow).to(conv.weight.dtype)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(1, 1), (4, 7)])
def test_values_and_gradients_are_those_of_upsampling_and_convolution(layout, size):
    torch.manual_seed(0)
    conv = UpsamplingConv2d(6, 5).double().to(memory_format=layout)
    slow = plain(conv)
    maps = torch.randn(3, 6, *size, dtype=torch.double).contiguous(memory_format=layout).requires_grad_()
    found, wanted = conv(maps), slow(maps)
    assert found.shape == (3, 5, 2 * size[0], 2 * size[1])
    assert size == (1, 1) or found.is_contiguous(memory_format=layout)  # one pixel is of either layout
    torch.testing.assert_close(found, wanted)
    toward = torch.randn_like(found)
    grads = torch.autograd.grad(found, [maps, conv.weight], toward)
    for own, expected in zip(grads, torch.autograd.grad(wanted, [maps, slow[1].weight], toward), strict=True):
        torch.testing.assert_close(own, expected)


def test_second_derivatives_are_right():
    torch.manual_seed(0)
    conv = UpsamplingConv2d(2, 1).double()
    maps = torch.randn(1, 2, 2, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda seen: conv(seen).square(), (maps,))


def test_the_kernels_of_the_four_places_are_sums_of_the_nine_weights():
    weight = torch.tensor([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0], [64.0, 128.0, 256.0]]).view(1, 1, 3, 3)
    upper_left, *_, lower_right = four_kernels(weight)
    assert upper_left[0].tolist() == [[1, 2 + 4], [8 + 64, 16 + 32 + 128 + 256]]
    assert lower_right[0].tolist() == [[1 + 2 + 8 + 16, 4 + 32], [64 + 128, 256]]


def test_it_has_the_first_weights_of_a_plain_convolution_and_sees_bf16_through_autocast():
    torch.manual_seed(0)
    conv = UpsamplingConv2d(8, 4)
    torch.manual_seed(0)
    assert torch.equal(conv.weight, nn.Conv2d(8, 4, 3, padding=1, bias=False).weight)
    maps = torch.randn(2, 8, 5, 5)
    with torch.autocast("cpu", torch.bfloat16):
        found = conv(maps)
    assert found.dtype == torch.bfloat16
    wanted = plain(conv)(maps)
    assert (found - wanted).norm() < 0.01 * wanted.norm()
