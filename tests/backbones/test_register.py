"""Backbones: structure, numbers against plain loops, timm's interface, registration when timm is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest
import timm
import torch
from torch.nn import functional as F

import hf_free.backbones.register
from hf_free.errors import ConfigError
from hf_free.teachers.saving import save_teacher


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


def test_conv4_refuses_images_too_small():
    with pytest.raises(ConfigError, match="at least 16x16"):
        timm.create_model("conv4_32", img_size=12)


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


@pytest.mark.parametrize("name", hf_free.backbones.register.NAMES)
def test_timm_saves_and_loads_our_networks(name, tmp_path):
    network = timm.create_model(name, num_classes=3).eval()
    save_teacher(network, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(again(x), network(x), rtol=0, atol=0)


def _run(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


_INSTALL = "import hf_free; from hf_free.backbones import timm_hook as _timm_hook; _timm_hook.install(); "


def test_hook_registers_when_timm_is_imported_afterwards():
    assert (
        _run(
            "import sys; before = list(sys.meta_path); "
            + _INSTALL
            + "_timm_hook.install(); assert not {'torch', 'timm'} & set(sys.modules); "
            "import importlib.util; assert importlib.util.find_spec('timm') is not None; "  # asked, not imported
            "import timm.layers; "
            "print(timm.create_model('conv4_32', num_classes=3).num_classes, sys.meta_path == before, "
            "'exec_module' in vars(timm.__spec__.loader), timm.__spec__.loader is timm.__loader__)"
        )
        == "3 True False True"
    )


def test_hook_registers_when_timm_was_imported_before():
    assert (
        _run(
            "import sys, timm; before = list(sys.meta_path); "
            + _INSTALL
            + "print(timm.create_model('resnet10_small').num_classes, sys.meta_path == before)"
        )
        == "5 True"
    )


def test_backbones_can_be_imported_first_with_the_hook_installed():
    assert _run(_INSTALL + "import hf_free.backbones.register, timm; print(timm.is_model('conv4_64'))") == "True"
