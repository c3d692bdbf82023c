"""Conv-4, the four-block network of the few-shot literature.

Vinyals et al. 2016 (arXiv 1606.04080); with 32 filters in MAML (arXiv 1703.03400) and FREE (arXiv 2405.00984), with
64 in Prototypical Networks (arXiv 1703.05175). R2-D2 (arXiv 1805.08136) lets the filters grow: 96, 192, 384, 512.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from torch import nn

from hf_free.backbones.base import SmallClassifier, as_size, default_cfg
from hf_free.backbones.halving_pool import HalvingPool
from hf_free.errors import ConfigError

_HALVINGS = 4


class Conv4(SmallClassifier):
    """Four blocks of 3x3 convolution (padding 1, bias), BatchNorm, ReLU and 2x2 max-pool; flatten; linear `head`.

    Weights are named `blocks.<i>.conv`, `blocks.<i>.bn` and `head`; PyTorch's own initialization. At 32x32 with
    32 filters: 128 features and 4.0 million multiply-accumulates per image.

    Args:
        width: Filters of every block, or of each of the four.
        num_classes: Outputs of the head; 0 for features.
        in_chans: Channels of the input.
        img_size: Side or (height, width) of the input; only the flattening head depends on it.
        global_pool: Empty (flatten), `avg` or `max`; see `SmallClassifier`.
        drop_rate: Dropout before the head while training.

    Attributes:
        pretrained_cfg: What timm knows of a network; so is `default_cfg`.

    Raises:
        ConfigError: an image too small for four halvings.
    """

    pretrained_cfg: dict[str, object]
    default_cfg: dict[str, object]

    def __init__(
        self,
        width: int | Sequence[int] = 32,
        num_classes: int = 5,
        in_chans: int = 3,
        img_size: int | tuple[int, int] = 32,
        global_pool: str = "",
        drop_rate: float = 0.0,
    ) -> None:
        height, breadth = as_size(img_size)
        if min(height, breadth) < 2**_HALVINGS:
            raise ConfigError(
                f"Conv-4 with an image size of {height}x{breadth}",
                allowed=f"at least {2**_HALVINGS}x{2**_HALVINGS}, since it halves the image four times",
                action="give a larger image size",
            )
        widths = [width] * _HALVINGS if isinstance(width, int) else list(width)
        if len(widths) != _HALVINGS:
            raise ConfigError(f"Conv-4 with widths {widths}", allowed="one width, or four", action="width=64")
        blocks = nn.Sequential(*(_block(a, b) for a, b in pairwise([in_chans, *widths])))
        super().__init__(
            blocks,
            channels=widths[-1],
            grid=(height >> _HALVINGS, breadth >> _HALVINGS),
            num_classes=num_classes,
            in_chans=in_chans,
            global_pool=global_pool,
            drop_rate=drop_rate,
        )

    def takes(self, channels: int, size: int) -> bool:
        """Whether square pictures of this size give `num_features`."""
        return channels == self.in_chans and (bool(self.global_pool) or self.grid == (size >> _HALVINGS,) * 2)


def _block(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(in_channels, channels, 3, padding=1),
            bn=nn.BatchNorm2d(channels),
            pool=HalvingPool(),  # before ReLU: the same values and gradients, and a quarter of the maps to cut off
            act=nn.ReLU(inplace=True),
        )
    )


FILTERS: dict[str, int | tuple[int, ...]] = {"conv4_32": 32, "conv4_64": 64, "conv4_384": (48, 96, 192, 384)}
"""Name registered with timm -> filters of its blocks. `conv4_384` has R2-D2's, with half of them in the first three
blocks: where pictures are large it has few, so that at 32x32 it takes 33 million multiply-accumulates an image, where
128 filters in all four blocks take 50."""

CFG = default_cfg("head", "blocks.0.conv", fixed_input_size=True)

default_cfgs: Mapping[str, object] = {}
"""What timm knows of the networks of this file; `hf_free.backbones.register` fills it in."""


def build_conv4(name: str, overlay: Mapping[str, Any], **arguments: Any) -> Conv4:
    """What `timm.create_model(name, pretrained_cfg_overlay=overlay, ...)` gives, without importing timm.

    Args:
        name: One of `FILTERS`.
        overlay: Keys of timm's `pretrained_cfg`, `input_size` among them.
        arguments: Of `Conv4`.
    """
    channels, *size = overlay["input_size"]
    network = Conv4(**{"width": FILTERS[name], "in_chans": channels, "img_size": tuple(size), **arguments})
    ours = {"architecture": name, "tag": "untrained", "custom_load": False, "crop_mode": "center"}
    network.pretrained_cfg = network.default_cfg = {**CFG, **ours, **overlay}
    return network
