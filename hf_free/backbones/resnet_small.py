"""Residual networks for small pictures, as the few-shot and data-free literature uses them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import nn
from torch.nn import functional as F

from hf_free.backbones.base import SmallClassifier, default_cfg

_RESNET12_WIDTHS = (64, 160, 320, 640)
"""Widths of MetaOptNet (Lee et al. 2019, arXiv 1904.03758), the most used of the literature's ResNet-12s."""


class SmallImageResNet(ResNet):
    """timm's ResNet with a 3x3 stem of stride 1 and no max-pool; stages of 64, 128, 256 and 512 channels.

    This is the ResNet of FREE's teachers and of its cost table (ResNet-18 at 32x32: 0.56 billion
    multiply-accumulates). Everything else, weight names included, is timm's.
    """

    conv1: Any
    maxpool: Any
    feature_info: list[dict[str, Any]]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        stem = nn.Conv2d(kwargs.get("in_chans", 3), 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
        self.conv1, self.maxpool = stem, nn.Identity()
        for info in self.feature_info:  # timm's stem halves the image twice, this one never
            info["reduction"] = max(1, info["reduction"] // 4)


class ResNet12Block(nn.Module):
    """Three 3x3 convolutions with BatchNorm and LeakyReLU(0.1), a 1x1 shortcut, then 2x2 max-pool."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        widths = (in_channels, channels, channels)
        self.convs = nn.ModuleList(nn.Conv2d(width, channels, 3, padding=1, bias=False) for width in widths)
        self.bns = nn.ModuleList(nn.BatchNorm2d(channels) for _ in widths)
        self.shortcut = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.shortcut_bn = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (batch, in_channels, H, W) to (batch, channels, H // 2, W // 2)."""
        out = x
        for index, (conv, bn) in enumerate(zip(self.convs, self.bns, strict=True)):
            out = bn(conv(out))
            if index < 2:
                out = F.leaky_relu(out, 0.1)
        out = F.leaky_relu(out + self.shortcut_bn(self.shortcut(x)), 0.1)
        return F.max_pool2d(out, 2)


class ResNet12(SmallClassifier):
    """The few-shot ResNet-12: four `ResNet12Block`s, global average, linear `head`; no DropBlock.

    Introduced by TADAM (Oreshkin et al. 2018, arXiv 1805.10123), with MetaOptNet's widths.
    """

    def __init__(
        self,
        num_classes: int = 5,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        channels = (in_chans, *_RESNET12_WIDTHS)
        blocks = nn.Sequential(*(ResNet12Block(a, b) for a, b in pairwise(channels)))
        for module in blocks.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="leaky_relu")
        super().__init__(
            blocks,
            channels=channels[-1],
            grid=(2, 2),
            num_classes=num_classes,
            in_chans=in_chans,
            global_pool=global_pool,
            drop_rate=drop_rate,
        )


_RESNET_CFG = default_cfg("fc", "conv1", fixed_input_size=False)
_RESNET12_CFG = default_cfg("head", "blocks.0.convs.0", fixed_input_size=False)
default_cfgs = generate_default_cfgs(
    {
        "resnet10_small.untrained": _RESNET_CFG,
        "resnet12_small.untrained": _RESNET12_CFG,
        "resnet18_small.untrained": _RESNET_CFG,
        "resnet50_small.untrained": _RESNET_CFG,
    }
)


def _resnet(name: str, pretrained: bool, block: type[nn.Module], layers: tuple[int, ...], **kwargs: Any) -> ResNet:
    arguments = dict({"block": block, "layers": layers}, **kwargs)
    return build_model_with_cfg(SmallImageResNet, name, pretrained, **arguments)


@register_model
def resnet10_small(pretrained: bool = False, **kwargs: object) -> ResNet:
    """ResNet-10 for small pictures: one basic block per stage."""
    return _resnet("resnet10_small", pretrained, BasicBlock, (1, 1, 1, 1), **kwargs)


@register_model
def resnet12_small(pretrained: bool = False, **kwargs: Any) -> ResNet12:
    """The few-shot ResNet-12."""
    return build_model_with_cfg(ResNet12, "resnet12_small", pretrained, **kwargs)


@register_model
def resnet18_small(pretrained: bool = False, **kwargs: object) -> ResNet:
    """ResNet-18 for small pictures: two basic blocks per stage."""
    return _resnet("resnet18_small", pretrained, BasicBlock, (2, 2, 2, 2), **kwargs)


@register_model
def resnet50_small(pretrained: bool = False, **kwargs: object) -> ResNet:
    """ResNet-50 for small pictures: bottleneck blocks."""
    return _resnet("resnet50_small", pretrained, Bottleneck, (3, 4, 6, 3), **kwargs)
