"""Conv-4 against plain convolutions and the names of published weights."""

from __future__ import annotations

import pytest
import timm
import torch
from torch.nn import functional as F

from hf_free.backbones.conv4 import FILTERS, build_conv4
from hf_free.errors import ConfigError


def _plain_conv4(state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    for i in range(4):
        x = F.conv2d(x, state[f"blocks.{i}.conv.weight"], state[f"blocks.{i}.conv.bias"], padding=1)
        mean, var = state[f"blocks.{i}.bn.running_mean"], state[f"blocks.{i}.bn.running_var"]
        x = (x - mean.view(1, -1, 1, 1)) / (var.view(1, -1, 1, 1) + 1e-5).sqrt()
        x = x * state[f"blocks.{i}.bn.weight"].view(1, -1, 1, 1) + state[f"blocks.{i}.bn.bias"].view(1, -1, 1, 1)
        x = F.max_pool2d(x.clamp(min=0), 2)
    return x.flatten(1) @ state["head.weight"].T + state["head.bias"]


def test_conv4_computes_what_its_weights_say():
    network = timm.create_model("conv4_32", num_classes=7)
    network.train()(torch.randn(16, 3, 32, 32))  # statistics that are not 0 and 1
    network.eval()
    x = torch.randn(5, 3, 32, 32)
    torch.testing.assert_close(network(x), _plain_conv4(network.state_dict(), x), rtol=1e-4, atol=1e-5)
    assert network.forward_head(network.forward_features(x), pre_logits=True).shape == (5, 128)


def test_conv4_with_growing_filters_computes_what_its_weights_say():
    network = timm.create_model("conv4_384", num_classes=3).eval()
    assert [block.conv.out_channels for block in network.blocks] == [48, 96, 192, 384]
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(network(x), _plain_conv4(network.state_dict(), x), rtol=1e-4, atol=1e-5)
    assert network.num_features == 2 * 2 * 384


def test_conv4_weight_names_are_those_of_published_teachers():
    names = [f"blocks.{i}.{part}" for i in range(4) for part in ("conv.weight", "conv.bias", "bn.weight", "bn.bias")]
    names += [f"blocks.{i}.bn.{x}" for i in range(4) for x in ("running_mean", "running_var", "num_batches_tracked")]
    assert set(timm.create_model("conv4_64").state_dict()) == {*names, "head.weight", "head.bias"}


@pytest.mark.parametrize(
    ("options", "size", "features"),
    [
        ({}, 32, 128),
        ({"img_size": 84}, 84, 800),
        ({"img_size": (32, 64)}, (32, 64), 256),
        ({"global_pool": "avg"}, 50, 32),
    ],
)
def test_conv4_features_follow_size_and_pooling(options, size, features):
    network = timm.create_model("conv4_32", num_classes=0, in_chans=1, **options)
    height, width = (size, size) if isinstance(size, int) else size
    assert network(torch.rand(2, 1, height, width)).shape == (2, features)
    assert network.num_features == features


def test_conv4_wants_one_width_or_four():
    with pytest.raises(ConfigError, match="widths \\[8, 16\\]"):
        timm.create_model("conv4_32", width=(8, 16))


def test_conv4_refuses_images_too_small():
    with pytest.raises(ConfigError, match="at least 16x16"):
        timm.create_model("conv4_32", img_size=12)


@pytest.mark.parametrize("name", sorted(FILTERS))
@pytest.mark.parametrize("arguments", [{}, {"global_pool": "avg", "drop_rate": 0.25}])
def test_it_is_built_alike_with_and_without_timm(name, arguments):
    overlay = {"input_size": (1, 48, 48), "mean": (0.5,), "std": (0.2,), "num_classes": 0, "pool_size": None}
    torch.manual_seed(3)
    expected = timm.create_model(name, num_classes=0, pretrained_cfg_overlay=overlay, **arguments).eval()
    torch.manual_seed(3)
    found = build_conv4(name, overlay, num_classes=0, **arguments).eval()
    assert found.pretrained_cfg == expected.pretrained_cfg
    assert found.default_cfg == expected.default_cfg
    assert found.num_features == expected.num_features
    x = torch.rand(2, 1, 48, 48)
    assert torch.equal(found(x), expected(x))


def test_it_takes_the_pictures_whose_features_are_as_wide_as_it_says():
    square = build_conv4("conv4_32", {"input_size": (3, 32, 32)}, num_classes=0)
    assert [square.takes(*shape) for shape in ((3, 32), (3, 47), (3, 48), (1, 32))] == [True, True, False, False]
    pooled = build_conv4("conv4_32", {"input_size": (3, 32, 32)}, num_classes=0, global_pool="max")
    assert pooled.takes(3, 84)
    assert not build_conv4("conv4_32", {"input_size": (3, 32, 32)}, num_classes=0, img_size=64).takes(3, 32)
