"""Networks of the few-shot literature; importing this module registers them with timm."""

from __future__ import annotations

import sys
from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model

from hf_free.backbones.conv4 import CFG, FILTERS, Conv4
from hf_free.backbones.resnet_small import ResNet12, SmallImageResNet

__all__ = ["NAMES", "Conv4", "ResNet12", "SmallImageResNet"]

NAMES = (*FILTERS, "resnet10_small", "resnet12_small", "resnet18_small", "resnet50_small")
"""The names registered with timm."""

default_cfgs = generate_default_cfgs({f"{name}.untrained": CFG for name in FILTERS})


def _register(name: str) -> None:
    """Register a Conv-4 with timm, which takes name and configuration from a function of this module."""

    def build(pretrained: bool = False, **kwargs: Any) -> Conv4:
        return build_model_with_cfg(Conv4, name, pretrained, **{"width": FILTERS[name], **kwargs})

    build.__name__ = build.__qualname__ = name
    setattr(sys.modules[__name__], name, register_model(build))


for _name in FILTERS:
    _register(_name)
