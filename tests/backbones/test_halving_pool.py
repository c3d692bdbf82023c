"""A maximum over windows of 2x2: the same numbers with and without gradients, and one node where it is exported."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hf_free.backbones.halving_pool import HalvingPool


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (2, 3)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_halving_is_max_pooling_to_the_bit(size, layout):
    images = torch.randn(3, 5, *size, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=layout)
    images[0, 0, 0, 0] = torch.nan
    with torch.no_grad():
        found = HalvingPool()(images)
    assert torch.equal(found.nan_to_num(9), nn.MaxPool2d(2)(images).nan_to_num(9))


def test_no_indices_are_looked_for_without_gradients(monkeypatch):
    monkeypatch.setattr(nn.MaxPool2d, "forward", None)
    with torch.no_grad():
        assert HalvingPool()(torch.ones(1, 1, 4, 4)).shape == (1, 1, 2, 2)


def test_gradients_reach_each_maximum():
    images = torch.rand(2, 3, 6, 6, requires_grad=True)
    HalvingPool()(images).sum().backward()
    assert images.grad.sum() == 2 * 3 * 9


@pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning")
def test_a_recorded_network_holds_one_pooling():
    with torch.no_grad():
        recorded = torch.jit.trace(HalvingPool().eval(), torch.rand(1, 1, 4, 4))
    assert "max_pool2d" in str(recorded.inlined_graph)
