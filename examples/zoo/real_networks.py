"""Networks of public checkpoints that timm does not know, registered with it: an example for your own.

    hf-free inspect zoo/real/*/ --import zoo/real/networks.py

`examples/zoo/real_teachers.py` copies this file beside the teachers that it writes, as `networks.py`, with the
checkpoints' own definitions as `models.py`; those know nothing of timm. What hf-free asks of a network is in
docs/guides/own-networks.md: four methods, an entry in timm's registry, and its usual input.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn
from torch.nn import functional as F

if __name__ == "__main__":
    raise SystemExit(f"This file is no program but given to --import.\n\n{__doc__}")
if not Path(__file__).with_name("models.py").is_file():
    raise ImportError("models.py is not beside this file: examples/zoo/real_teachers.py copies both into its --output")
_place = importlib.util.spec_from_file_location("checkpoint_models", Path(__file__).with_name("models.py"))
assert _place is not None
assert _place.loader is not None
models: Any = importlib.util.module_from_spec(_place)
_place.loader.exec_module(models)


class TimmInterface(nn.Module):
    """timm's classifier interface; what is left to a network is `forward_features`, `pool` and its head's name."""

    head_name = "linear"

    def finish(self, num_classes: int) -> None:
        """Note what timm asks a network for, once its layers are there."""
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = self.get_classifier().in_features
        if not num_classes:
            self.reset_classifier(0)  # a layer of no outputs would give no features

    def get_classifier(self) -> Any:
        """The last linear layer."""
        return getattr(self, self.head_name)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Give the network a fresh head; 0 classes leave the features as output."""
        self.num_classes = num_classes
        head = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        setattr(self, self.head_name, head)

    def pool(self, x: Tensor) -> Tensor:
        """Feature maps -> the classifier's input (batch, features)."""
        return x.mean((2, 3))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Feature maps -> logits, or the classifier's input."""
        x = self.pool(x)
        return x if pre_logits else self.get_classifier()(x)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of normalized pictures."""
        return self.forward_head(self.forward_features(x))


class CifarResNet(TimmInterface, models.CifarResNet):
    """ResNet-(6n+2) with option-A shortcuts (He et al. 2016, arXiv 1512.03385, section 4.2)."""

    def __init__(self, depth: int, num_classes: int = 10, in_chans: int = 3) -> None:
        _only(in_chans, 3)
        super().__init__(depth=depth, num_classes=num_classes)
        self.finish(num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Maps (batch, 64, 8, 8)."""
        return self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))


class TinyResNet8(TimmInterface, models.TinyResNet8):
    """ResNet-8 of MLPerf Tiny; its input is in 0..255, which mean 0 and std 1/255 give."""

    head_name = "fc"

    def __init__(self, num_classes: int = 10, in_chans: int = 3) -> None:
        _only(in_chans, 3)
        super().__init__(num_classes=num_classes)
        self.finish(num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Maps (batch, 64, 8, 8)."""
        x = F.relu(self.bn0(self.conv0(x)))
        for stage in ("1", "2", "3"):
            first, bn1, second, bn2 = (getattr(self, name + stage) for name in ("a", "abn", "b", "bbn"))
            y = bn2(second(F.relu(bn1(first(x)))))
            x = F.relu(y + (getattr(self, "short" + stage)(x) if stage != "1" else x))
        return x


class VggSmall(TimmInterface, models.VggSmall):
    """Six convolutions and a hidden layer, ported from Keras: its flattening puts channels last."""

    head_name = "fc2"

    def __init__(self, num_classes: int = 10, in_chans: int = 3, img_size: int | tuple[int, int] = 32) -> None:
        _only(in_chans, 3)
        _only(_side(img_size), 32)
        super().__init__(num_classes=num_classes)
        self.finish(num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Maps (batch, 128, 4, 4)."""
        return self.features(x)

    def pool(self, x: Tensor) -> Tensor:
        """The hidden layer (batch, 128)."""
        return F.relu(self.fc1(x.permute(0, 2, 3, 1).flatten(1)))


class ConvSmall(TimmInterface, models.ConvSmall):
    """Two strided convolutions and a hidden layer (Wong and Kolter 2018, arXiv 1711.00851); no normalization."""

    head_name = "fc2"

    def __init__(self, num_classes: int = 10, in_chans: int = 1, img_size: int | tuple[int, int] = 28) -> None:
        super().__init__(in_chans=in_chans, size=_side(img_size), num_classes=num_classes)
        self.finish(num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Maps (batch, 32, size / 4, size / 4)."""
        return F.relu(self.conv2(F.relu(self.conv1(x))))

    def pool(self, x: Tensor) -> Tensor:
        """The hidden layer (batch, 100)."""
        return F.relu(self.fc1(x.flatten(1)))


def _only(given: int, allowed: int) -> None:
    if given != allowed:
        raise ValueError(f"{given} channels or pixels; allowed: {allowed}")


def _side(img_size: int | tuple[int, int]) -> int:
    """Side of a square picture; timm tells networks of a fixed input size theirs as (height, width)."""
    return img_size if isinstance(img_size, int) else img_size[0]


def _cfg(classifier: str, input_size: tuple[int, int, int], *, fixed: bool) -> dict[str, Any]:
    usual = {"url": "", "pool_size": None, "interpolation": "bilinear", "crop_pct": 1.0, "num_classes": 10}
    channels = input_size[0]
    return usual | {
        "input_size": input_size,
        "fixed_input_size": fixed,
        "mean": (0.0,) * channels,
        "std": (1.0,) * channels,
        "classifier": classifier,
        "first_conv": None,
    }


_RESNET = _cfg("linear", (3, 32, 32), fixed=False)
default_cfgs = generate_default_cfgs(
    {
        **{f"cifar_resnet{depth}.real": _RESNET for depth in (20, 32, 44, 56)},
        "tiny_resnet8.real": _cfg("fc", (3, 32, 32), fixed=False),
        "vgg_small.real": _cfg("fc2", (3, 32, 32), fixed=True),
        "conv_small28.real": _cfg("fc2", (1, 28, 28), fixed=True),
        "conv_small32.real": _cfg("fc2", (3, 32, 32), fixed=True),
    }
)


@register_model
def cifar_resnet20(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """CIFAR ResNet-20."""
    return build_model_with_cfg(CifarResNet, "cifar_resnet20", pretrained, depth=20, **kwargs)


@register_model
def cifar_resnet32(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """CIFAR ResNet-32."""
    return build_model_with_cfg(CifarResNet, "cifar_resnet32", pretrained, depth=32, **kwargs)


@register_model
def cifar_resnet44(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """CIFAR ResNet-44."""
    return build_model_with_cfg(CifarResNet, "cifar_resnet44", pretrained, depth=44, **kwargs)


@register_model
def cifar_resnet56(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """CIFAR ResNet-56."""
    return build_model_with_cfg(CifarResNet, "cifar_resnet56", pretrained, depth=56, **kwargs)


@register_model
def tiny_resnet8(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """ResNet-8 of MLPerf Tiny."""
    return build_model_with_cfg(TinyResNet8, "tiny_resnet8", pretrained, **kwargs)


@register_model
def vgg_small(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """A small VGG."""
    return build_model_with_cfg(VggSmall, "vgg_small", pretrained, **kwargs)


@register_model
def conv_small28(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Two convolutions for 28x28 pictures, one channel by default."""
    return build_model_with_cfg(ConvSmall, "conv_small28", pretrained, **{"in_chans": 1, **kwargs})


@register_model
def conv_small32(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Two convolutions for 32x32 pictures in color."""
    return build_model_with_cfg(ConvSmall, "conv_small32", pretrained, **{"in_chans": 3, **kwargs})
