"""Pico classifiers of transformers, one of each family, with random weights: built in milliseconds, saved by itself.

Import it behind `pytest.importorskip("transformers")`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

transformers.logging.disable_progress_bar()

_VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "patch_size": 8}
_SIZED = {**_VIT, "image_size": 32}
_STAGES = {"embedding_size": 8, "hidden_sizes": [8, 12, 16, 16], "depths": [1, 1, 1, 1]}
_SWIN = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4, "patch_size": 4, "image_size": 32}
_PYRAMID = {
    "depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16], "num_attention_heads": [1, 1, 2, 2], "mlp_ratios": [2] * 4,
}  # fmt: skip
_LATENTS = {
    "num_latents": 4, "d_latents": 16, "num_self_attends_per_block": 1, "num_self_attention_heads": 2,
    "num_cross_attention_heads": 1, "image_size": 32,
}  # fmt: skip

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "beit": ("BeitForImageClassification", {**_SIZED, "use_relative_position_bias": True}),
    "bit": ("BitForImageClassification", {**_STAGES, "num_groups": 4}),
    "clip": ("CLIPForImageClassification", {"vision_config": _SIZED}),
    "convnext": ("ConvNextForImageClassification", {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}),
    "convnextv2": ("ConvNextV2ForImageClassification", {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}),
    "cvt": ("CvtForImageClassification", {"embed_dim": [8, 8, 16], "num_heads": [1, 1, 2], "depth": [1, 2, 3]}),
    "data2vec-vision": ("Data2VecVisionForImageClassification", {**_SIZED, "use_relative_position_bias": True}),
    "deit": ("DeiTForImageClassification", _SIZED),
    "deit-two": ("DeiTForImageClassificationWithTeacher", _SIZED),
    "dinov2": ("Dinov2ForImageClassification", {**_SIZED, "intermediate_size": ..., "mlp_ratio": 2}),
    "dinov2_with_registers": (
        "Dinov2WithRegistersForImageClassification", {**_SIZED, "intermediate_size": ..., "mlp_ratio": 2}
    ),
    "donut-swin": ("DonutSwinForImageClassification", _SWIN),
    "efficientnet": (
        "EfficientNetForImageClassification",
        {"width_coefficient": 0.25, "depth_coefficient": 0.3, "hidden_dim": 320, "image_size": 32,
         "in_channels": [8, 8, 8, 8], "out_channels": [8, 8, 8, 8], "kernel_sizes": [3, 3, 3, 3],
         "strides": [1, 2, 2, 1], "num_block_repeats": [1, 1, 1, 1], "expand_ratios": [1, 2, 2, 2]},
    ),
    "focalnet": (
        "FocalNetForImageClassification",
        {"embed_dim": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "focal_levels": [1, 1], "focal_windows": [3, 3],
         "image_size": 32},
    ),
    "hgnet_v2": (
        "HGNetV2ForImageClassification",
        {**_STAGES, "stem_channels": [3, 8, 8], "stage_in_channels": [8, 8, 12, 16], "stage_mid_channels": [4] * 4,
         "stage_out_channels": [8, 12, 16, 16], "stage_num_blocks": [1] * 4, "stage_numb_of_layers": [2] * 4},
    ),
    "hiera": (
        "HieraForImageClassification",
        {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1], "image_size": [32, 32],
         "masked_unit_size": [8, 8]},
    ),
    "ijepa": ("IJepaForImageClassification", _SIZED),
    "levit": (
        "LevitForImageClassification",
        {"hidden_sizes": [16, 16, 16], "num_attention_heads": [1, 1, 1], "depths": [1, 1, 1], "key_dim": [4, 4, 4],
         "image_size": 64},
    ),
    "levit-two": (
        "LevitForImageClassificationWithTeacher",
        {"hidden_sizes": [16, 16, 16], "num_attention_heads": [1, 1, 1], "depths": [1, 1, 1], "key_dim": [4, 4, 4],
         "image_size": 64},
    ),
    "metaclip_2": ("MetaClip2ForImageClassification", {"vision_config": _SIZED}),
    "mobilenet_v1": ("MobileNetV1ForImageClassification", {"depth_multiplier": 0.1, "image_size": 32}),
    "mobilenet_v2": ("MobileNetV2ForImageClassification", {"depth_multiplier": 0.1, "image_size": 32}),
    "mobilevit": (
        "MobileViTForImageClassification",
        {"hidden_sizes": [8, 8, 8], "neck_hidden_sizes": [4, 8, 8, 8, 8, 8, 16], "num_attention_heads": 2,
         "image_size": 32},
    ),
    "mobilevitv2": (
        "MobileViTV2ForImageClassification",
        {"width_multiplier": 0.25, "base_attn_unit_dims": [32, 32, 32], "n_attn_blocks": [1, 1, 1], "image_size": 32},
    ),
    "perceiver-learned": ("PerceiverForImageClassificationLearned", {**_LATENTS, "d_model": 512}),
    "perceiver-fourier": ("PerceiverForImageClassificationFourier", {**_LATENTS, "d_model": 261}),
    "perceiver-conv": ("PerceiverForImageClassificationConvProcessing", {**_LATENTS, "d_model": 322}),
    "poolformer": (
        "PoolFormerForImageClassification", {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
    ),
    "pp_lcnet": ("PPLCNetForImageClassification", {"scale": 0.25, "class_expand": 16}),
    "pvt": ("PvtForImageClassification", {**_PYRAMID, "image_size": 32}),
    "pvt_v2": ("PvtV2ForImageClassification", {**_PYRAMID, "image_size": 32}),
    "regnet": ("RegNetForImageClassification", {**_STAGES, "groups_width": 4}),
    "resnet": ("ResNetForImageClassification", _STAGES),
    "segformer": ("SegformerForImageClassification", _PYRAMID),
    "siglip": ("SiglipForImageClassification", {"vision_config": _SIZED}),
    "siglip2": (
        "Siglip2ForImageClassification", {"vision_config": {**_VIT, "num_patches": 16}}
    ),
    "swiftformer": ("SwiftFormerForImageClassification", {"depths": [1, 1, 1, 1], "embed_dims": [8, 8, 16, 16]}),
    "swin": ("SwinForImageClassification", _SWIN),
    "swinv2": ("Swinv2ForImageClassification", _SWIN),
    "textnet": (
        "TextNetForImageClassification",
        {"stem_out_channels": 8, "hidden_sizes": [8, 8, 8, 8, 16],
         "conv_layer_kernel_sizes": [[[3, 3]], [[3, 3]], [[3, 3]], [[3, 3]]],
         "conv_layer_strides": [[2], [2], [2], [2]], "image_size": 32},
    ),
    "vit": ("ViTForImageClassification", _SIZED),
    "vit_msn": ("ViTMSNForImageClassification", _SIZED),
}  # fmt: skip
"""Name -> (class, what its configuration is made of); some types have more than one class."""

PATCHES = {"max_num_patches": 16, "patch_size": 8, "image_processor_type": "Siglip2ImageProcessor"}


def pico_classifier(family: str = "vit", *, num_classes: int = 5, seed: int = 0, **changes: Any) -> nn.Module:
    """A classifier with random weights, statistics of noise where it has BatchNorm, and a head that distinguishes."""
    architecture, values = FAMILIES[family]
    network_class = getattr(transformers, architecture)
    values = {key: value for key, value in {**values, **changes}.items() if value is not ...}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = network_class.config_class(**values, num_labels=num_classes, attn_implementation="eager")
        network: nn.Module = network_class(config)
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=max(0.05, (2 / parameter[0].numel()) ** 0.5))
            network.train()
            for module in network.modules():
                if isinstance(module, nn.Dropout):
                    module.p = 0.0
                if isinstance(module, nn.BatchNorm2d):
                    module.momentum = 1.0  # one batch is enough
            ask(network, torch.randn(8, changes.get("num_channels", 3), *size_of(family)))
    return network.eval()


def ask(network: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """The library's own forward on normalized pixels, as its documentation shows it."""
    if type(network).__name__.startswith("Siglip2"):
        from transformers.models.siglip2.image_processing_siglip2 import convert_image_to_patches

        patches = torch.stack([convert_image_to_patches(one, 8) for one in pixels])
        shape = torch.tensor([[pixels.shape[-2] // 8, pixels.shape[-1] // 8]] * len(pixels))
        mask = torch.ones(len(pixels), patches.shape[1], dtype=torch.int32)
        return network(pixel_values=patches, pixel_attention_mask=mask, spatial_shapes=shape).logits
    output = network(pixel_values=pixels)
    return output.logits if "logits" in output else output.last_hidden_state


def size_of(family: str) -> tuple[int, int]:
    """Height and width that a family's pico network is shown."""
    return (64, 64) if family.startswith(("levit", "mobilevit")) else (32, 32)


def pico_folder_of(
    folder: Path,
    family: str = "vit",
    *,
    label_names: Sequence[str] | None = None,
    processor: Mapping[str, Any] | None = None,
    **options: Any,
) -> Path:
    """`pico_classifier` saved by the library, with a preprocessor_config.json of our own; returns the folder."""
    network: Any = pico_classifier(family, **options)
    if label_names is not None:
        network.config.id2label = dict(enumerate(label_names))
        network.config.label2id = {name: place for place, name in enumerate(label_names)}
    network.save_pretrained(folder)
    height, width = size_of(family)
    plain = {
        "image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": height, "width": width},
        "do_normalize": True, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.25, 0.2, 0.3], "resample": 3,
    }  # fmt: skip
    chosen = processor if processor is not None else (PATCHES if family == "siglip2" else plain)
    (folder / "preprocessor_config.json").write_text(json.dumps(chosen))
    return folder


def pico_files_of(family: str = "vit", **options: Any) -> dict[str, bytes]:
    """`pico_folder_of` as file contents, for `LoopbackHub.add_repo`."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        written = pico_folder_of(Path(folder), family, **options)
        return {path.name: path.read_bytes() for path in sorted(written.iterdir())}
