"""Networks of the few-shot literature; importing this module registers them with timm."""

from __future__ import annotations

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model

from hf_free.backbones import conv4
from hf_free.backbones.conv4 import CFG, FILTERS, Conv4
from hf_free.backbones.resnet_small import ResNet12, SmallImageResNet

__all__ = ["NAMES", "Conv4", "ResNet12", "SmallImageResNet"]

NAMES = (*FILTERS, "resnet10_small", "resnet12_small", "resnet18_small", "resnet50_small")
"""The names registered with timm."""


def _register(name: str) -> None:
    """Register a Conv-4; timm reads its name, its module and that module's `default_cfgs` off a function."""

    def build(pretrained: bool = False, **kwargs: Any) -> Conv4:
        return build_model_with_cfg(Conv4, name, pretrained, **{"width": FILTERS[name], **kwargs})

    build.__name__ = build.__qualname__ = name
    build.__module__ = conv4.__name__
    register_model(build)


conv4.default_cfgs = generate_default_cfgs({f"{name}.untrained": CFG for name in FILTERS})
for _name in FILTERS:
    _register(_name)
