"""ResNets for small pictures."""

from __future__ import annotations

import pytest
import timm
import torch
from torch.nn import functional as F


@pytest.mark.parametrize(
    ("name", "features", "parameters", "grid"),
    [  # parameters of the literature's networks without the classifier
        ("resnet10_small", 512, 4_898_112, 4),
        ("resnet12_small", 640, 12_424_320, 2),
        ("resnet18_small", 512, 11_168_832, 4),
    ],
)
def test_small_resnets(name, features, parameters, grid):
    network = timm.create_model(name, num_classes=0, in_chans=3).eval()
    assert sum(p.numel() for p in network.parameters()) == parameters
    x = torch.rand(2, 3, 32, 32)
    maps = network.forward_features(x)
    assert maps.shape == (2, features, grid, grid)  # 3x3 stem, no max-pool
    torch.testing.assert_close(network(x), maps.mean((2, 3)))
    assert network(torch.rand(2, 3, 40, 24)).shape == (2, features)
    network.reset_classifier(3)
    assert network(x).shape == (2, 3)


def test_resnet12_block_is_the_papers():
    block = timm.create_model("resnet12_small").blocks[0].eval()
    x = torch.rand(2, 3, 8, 8)
    out = x
    for i in range(3):
        out = block.bns[i](F.conv2d(out, block.convs[i].weight, padding=1))
        out = torch.where(out > 0, out, 0.1 * out) if i < 2 else out
    out = out + block.shortcut_bn(F.conv2d(x, block.shortcut.weight))
    out = F.max_pool2d(torch.where(out > 0, out, 0.1 * out), 2)
    torch.testing.assert_close(block(x), out)
