"""Networks of the few-shot literature; importing this package registers them with timm."""

from __future__ import annotations

from hf_free.backbones.conv4 import Conv4
from hf_free.backbones.resnet_small import ResNet12, SmallImageResNet

__all__ = ["NAMES", "Conv4", "ResNet12", "SmallImageResNet"]

NAMES = ("conv4_32", "conv4_64", "conv4_384", "resnet10_small", "resnet12_small", "resnet18_small", "resnet50_small")
"""The names registered with timm."""
