"""What the few-shot networks share: pooling, and a head that can be replaced."""

from __future__ import annotations

import pytest
import timm
import torch


def test_pooling_is_mean_or_maximum_of_the_grid():
    flat, avg, peak = (timm.create_model("conv4_32", num_classes=0, global_pool=pool) for pool in ("", "avg", "max"))
    for other in (avg, peak):
        other.load_state_dict(flat.state_dict())
    x = torch.rand(3, 3, 32, 32)
    grid = flat.eval()(x).view(3, 32, 2, 2)
    torch.testing.assert_close(avg.eval()(x), grid.mean((2, 3)))
    torch.testing.assert_close(peak.eval()(x), grid.amax((2, 3)))


def test_conv4_head_can_be_replaced_and_is_tied_to_its_size():
    network = timm.create_model("conv4_32", num_classes=5)
    network.reset_classifier(9)
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, 9)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        network(torch.rand(2, 3, 64, 64))
    network.reset_classifier(4, "avg")
    assert network(torch.rand(2, 3, 64, 64)).shape == (2, 4)
    assert network.get_classifier().out_features == 4
    with pytest.raises(ValueError, match="global_pool='median'"):
        network.reset_classifier(4, "median")
