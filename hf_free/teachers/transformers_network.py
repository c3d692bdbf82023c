"""An image classifier of transformers behind timm's interface: features (the input of its head), and the head alone.

Nothing of the library is imported here: what is wrapped has been built already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Family:
    """How the classifiers of one `model_type` answer.

    Attributes:
        heads: Where the heads lie in the network; the answers of several are averaged, as the library averages them.
        output: Field of the library's output that holds the answers.
        is_fixed: Whether the network takes pictures of one size only, or silently answers about others that it was not
            made for.
        most_grid: Most rows and columns of patches; LeViT numbers all pairs of positions in Python, one by one, which
            takes minutes beyond that. Its published networks have 14.
        takes_patches: Whether the network is given patches instead of pictures.
    """

    heads: tuple[str, ...] = ("classifier",)
    output: str = "logits"
    is_fixed: bool = False
    most_grid: int | None = None
    takes_patches: bool = False


_FIXED = Family(is_fixed=True)
_OTHER_HEAD = Family(("fc",))
_PERCEIVER = Family(("perceiver.decoder.decoder.final_layer",), is_fixed=True)

_ONE_HEAD = (
    "bit", "convnext", "convnextv2", "cvt", "dinov2", "dinov2_with_registers", "efficientnet", "focalnet",
    "mobilenet_v1", "mobilenet_v2", "mobilevit", "mobilevitv2", "poolformer", "pvt_v2", "regnet", "resnet",
    "segformer",
)  # fmt: skip
_ONE_HEAD_ONE_SIZE = (
    "beit", "clip", "data2vec-vision", "donut-swin", "hiera", "ijepa", "metaclip_2", "pvt", "siglip", "swin", "swinv2",
    "vit", "vit_msn",
)  # fmt: skip

FAMILIES: Mapping[str, Mapping[str, Family]] = {
    **{kind: {"": Family()} for kind in _ONE_HEAD},
    **{kind: {"": _FIXED} for kind in _ONE_HEAD_ONE_SIZE},
    "deit": {
        "DeiTForImageClassification": _FIXED,
        "DeiTForImageClassificationWithTeacher": Family(("cls_classifier", "distillation_classifier"), is_fixed=True),
    },
    "levit": {
        "LevitForImageClassification": Family(is_fixed=True, most_grid=32),
        "LevitForImageClassificationWithTeacher": Family(
            ("classifier", "classifier_distill"), is_fixed=True, most_grid=32
        ),
    },
    "perceiver": {
        "PerceiverForImageClassificationLearned": _PERCEIVER,
        "PerceiverForImageClassificationFourier": _PERCEIVER,
        "PerceiverForImageClassificationConvProcessing": _PERCEIVER,
    },
    "hgnet_v2": {"": _OTHER_HEAD},
    "textnet": {"": _OTHER_HEAD},
    "pp_lcnet": {"": Family(("head",), output="last_hidden_state")},
    "siglip2": {"": Family(is_fixed=True, takes_patches=True)},
    "swiftformer": {"": Family(("head", "dist_head"))},
}
"""`model_type` -> class -> how it answers; "" stands for a type's only class."""

UNFIT: Mapping[str, str] = {
    "dinat": "its attention needs the package natten",
    "imagegpt": "it takes the numbers of colors instead of pictures, which have no gradient",
    "shieldgemma2": "it is a language model that judges pictures",
}
"""Types that the library calls image classifiers but that cannot be teachers, with the reason."""

_TOKENS = ("cls_logits", "distillation_logits")
"""Outputs of the two heads of DeiT, whose inputs are two tokens."""


class TransformersNetwork(nn.Module):
    """A classifier of transformers with timm's `forward_features` and `forward_head`.

    Its heads are taken out, so that what the library would return as logits are their inputs: exactly the numbers that
    the library computes with, without hooks.

    Args:
        model: Built and loaded by the library; it is changed.
        family: How it answers.
        architecture: Its class.
        is_flipped: Whether it takes blue, green, red.
    """

    def __init__(self, model: nn.Module, family: Family, architecture: str, *, is_flipped: bool = False) -> None:
        super().__init__()
        self.heads = nn.ModuleList(_take_out(model, place) for place in family.heads)
        self.body = model
        self.family, self.is_flipped = family, is_flipped
        self.pretrained_cfg = {"architecture": architecture, "classifier": ("heads",)}
        self.num_classes = 0
        self._traits = {"fixed_input_size": family.is_fixed}

    def forward(self, x: Tensor) -> Tensor:
        """Pictures (B, C, H, W) -> logits (B, classes)."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Inputs of the heads: (B, F), or (B, 2, F) where two heads look at two tokens."""
        x = x.flip(1) if self.is_flipped else x
        output: Any = self.body(**(self._patches(x) if self.family.takes_patches else {"pixel_values": x}))
        if self._has_two_tokens:
            return torch.stack([output[key] for key in _TOKENS], 1)
        features: Tensor = output[self.family.output]
        return features

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits of what `forward_features` gave; with `pre_logits` the features (B, F), two tokens averaged."""
        if pre_logits:
            return x.mean(1) if x.ndim == 3 else x.flatten(1)
        if len(self.heads) == 1:
            return self.heads[0](x)
        first, second = (x[:, 0], x[:, 1]) if x.ndim == 3 else (x, x)
        return (self.heads[0](first) + self.heads[1](second)) / 2

    @property
    def _has_two_tokens(self) -> bool:
        return "cls_classifier" in self.family.heads

    def _patches(self, x: Tensor) -> Mapping[str, Tensor]:
        """Patches (B, N, size * size * C) in rows, each pixel by pixel, as SigLIP 2's processor cuts them."""
        body: Any = self.body
        size = body.config.vision_config.patch_size
        batch, channels, height, width = x.shape
        rows, columns = height // size, width // size
        patches = x.reshape(batch, channels, rows, size, columns, size).permute(0, 2, 4, 3, 5, 1)
        shapes = torch.tensor([[rows, columns]], device=x.device).expand(batch, 2)
        return {
            "pixel_values": patches.reshape(batch, rows * columns, -1),
            "pixel_attention_mask": torch.ones(batch, rows * columns, dtype=torch.int32, device=x.device),
            "spatial_shapes": shapes,
        }


def family_of(model_type: str, architecture: str) -> Family | None:
    """How a class of a type answers; None where it is not known."""
    classes = FAMILIES.get(model_type, {})
    return classes.get("", classes.get(architecture))


def _take_out(model: nn.Module, place: str) -> nn.Module:
    """A network's head; an identity takes its place."""
    parent, _, name = place.rpartition(".")
    owner = model.get_submodule(parent) if parent else model
    head = getattr(owner, name)
    setattr(owner, name, nn.Identity())
    return head
