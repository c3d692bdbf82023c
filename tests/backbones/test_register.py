"""Backbones: structure, numbers against plain loops, timm's interface, registration when timm is imported."""

from __future__ import annotations

import pytest
import timm
import torch

import hf_free.backbones.register
from hf_free.teachers.saving import save_teacher


@pytest.mark.parametrize("name", hf_free.backbones.register.NAMES)
def test_timm_saves_and_loads_our_networks(name, tmp_path):
    network = timm.create_model(name, num_classes=3).eval()
    save_teacher(network, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(again(x), network(x), rtol=0, atol=0)
