"""Any classifier behind timm's interface."""

from __future__ import annotations

import copy

import torch
from torch import nn

from hf_free.teachers.folding import fold_batchnorm
from hf_free.teachers.own_network import OwnNetwork


def _network():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    return nn.Sequential(*layers).eval()


@torch.no_grad()
def test_its_features_are_the_input_of_the_last_layer_and_its_copy_is_its_own():
    body, images = _network(), torch.rand(4, 3, 16, 16)
    network = OwnNetwork(body, (3, 16, 16))
    assert torch.equal(network(images), body(images))
    features = network.forward_features(images)
    assert torch.equal(features, body[:-1](images))
    assert torch.equal(network.forward_head(features), body(images))
    copied = copy.deepcopy(network)
    body[-1].weight.zero_()
    assert not torch.equal(copied(images), network(images))


@torch.no_grad()
def test_it_is_folded_though_its_output_is_looked_at():
    network, images = OwnNetwork(_network(), (3, 16, 16)).eval(), torch.rand(4, 3, 16, 16)
    folded = fold_batchnorm(network)
    assert folded is not None
    torch.testing.assert_close(folded(images), network(images), rtol=1e-4, atol=1e-5)
