"""How a transformers model's processor turns a photo into pixels, according to `preprocessor_config.json`.

The library's processors differ in more than size, mean and std: some divide by std twice, swap red and blue, crop
before they resize. What each does is written down here once, in the words of `TeacherRecord`, and compared with the
processors themselves in tests; recovered pictures, which have no processor, then get the same mean and std.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from hf_free.errors import TeacherError
from hf_free.provenance.reading import JsonView
from hf_free.runtime.given import short_form
from hf_free.teachers.config_check import FILTERS, SIDES, is_whole, per_channel

_FILTER_NUMBERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""Pillow's numbers of filters (`PIL.Image.Resampling`)."""

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


@dataclass(frozen=True)
class Processor:
    """Defaults of one of the library's processors (transformers 5.24)."""

    size: int
    normal: tuple[tuple[float, ...], tuple[float, ...]]
    filter: str
    crop: int | None = None
    is_square: bool = True
    """Whether a size given as one number stands for both sides; else it is the shorter one."""


PROCESSORS: Mapping[str, Processor] = {
    "Beit": Processor(224, _HALF, "bicubic"),
    "Bit": Processor(224, _CLIP, "bicubic", 224, is_square=False),
    "CLIP": Processor(224, _CLIP, "bicubic", 224, is_square=False),
    "ConvNext": Processor(384, _HALF, "bicubic", is_square=False),
    "DeiT": Processor(256, _HALF, "bicubic", 224),
    "EfficientNet": Processor(346, _HALF, "bicubic"),
    "Levit": Processor(224, _IMAGENET, "bicubic", 224, is_square=False),
    "MobileNetV1": Processor(256, _HALF, "bilinear", 224, is_square=False),
    "MobileNetV2": Processor(256, _HALF, "bilinear", 224, is_square=False),
    "MobileViT": Processor(224, _HALF, "bicubic", 256, is_square=False),
    "PPLCNet": Processor(256, ((0.406, 0.456, 0.485), (0.225, 0.224, 0.229)), "bilinear", 224),
    "Perceiver": Processor(224, _IMAGENET, "bicubic", 256),
    "PoolFormer": Processor(224, _IMAGENET, "bicubic", 224, is_square=False),
    "Pvt": Processor(224, _IMAGENET, "bicubic"),
    "Segformer": Processor(512, _IMAGENET, "bilinear"),
    "Siglip": Processor(224, _HALF, "bicubic", is_square=False),
    "TextNet": Processor(640, _IMAGENET, "bilinear", is_square=False),
    "ViT": Processor(224, _HALF, "bilinear"),
}
"""Processors by the name of their class without its common ending."""

_FLIPPED = ("MobileViT", "PPLCNet")

BY_MODEL: Mapping[str, str] = {
    "beit": "Beit", "bit": "Bit", "clip": "CLIP", "convnext": "ConvNext", "convnextv2": "ConvNext", "cvt": "ConvNext",
    "data2vec-vision": "Beit", "deit": "DeiT", "dinov2": "Bit", "efficientnet": "EfficientNet", "focalnet": "Bit",
    "hiera": "Bit", "ijepa": "ViT", "levit": "Levit", "metaclip_2": "CLIP", "mobilenet_v1": "MobileNetV1",
    "mobilenet_v2": "MobileNetV2", "mobilevit": "MobileViT", "mobilevitv2": "MobileViT", "perceiver": "Perceiver",
    "poolformer": "PoolFormer", "pp_lcnet": "PPLCNet", "pvt": "Pvt", "pvt_v2": "Pvt", "regnet": "ConvNext",
    "resnet": "ConvNext", "segformer": "Segformer", "siglip": "Siglip", "swiftformer": "ViT", "swin": "ViT",
    "swinv2": "ViT", "textnet": "TextNet", "vit": "ViT", "vit_msn": "ViT",
}  # fmt: skip
"""Processor of each model type where a file names none, as the library chooses it."""

_LIMIT_OF_CROPPING = 384
"""From this size on ConvNext's processor distorts the whole picture instead of cropping its center."""


@dataclass(frozen=True)
class Pixels:
    """How a photo becomes a network's input; see `TeacherRecord` for `resize` and the others."""

    height: int
    width: int
    resize: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    is_flipped: bool = False
    """Whether the network takes blue, green, red."""
    notes: tuple[str, ...] = ()


def read_pixels(values: object, name: str, *, model_type: str, channels: int) -> Pixels:
    """What a parsed `preprocessor_config.json` (or the part of `processor_config.json`) says.

    Raises:
        TeacherError: a processor that is not known, or a value that is not allowed.
    """
    if not isinstance(values, Mapping):
        raise TeacherError(f"{name}: preprocessor_config.json holds a {type(values).__name__}", allowed="an object")
    kind = _kind(values, name, model_type)
    defaults = PROCESSORS[kind]
    notes: list[str] = []
    resize, (height, width) = _sizes(values, kind, name, notes)
    mean, std = _affine(values, kind, channels, name, notes)
    flips = kind in _FLIPPED and (kind != "MobileViT" or _flag(values, "do_flip_channel_order", True, name))
    return Pixels(
        height=height,
        width=width,
        resize=resize,
        mean=mean,
        std=std,
        interpolation=_filter(values.get("resample", values.get("interpolation")), defaults.filter, notes),
        is_flipped=flips and channels == 3,
        notes=tuple(notes),
    )


def overlay(pixels: Pixels | None, given: JsonView, name: str, channels: int) -> Pixels | None:
    """`pixels` with a YAML list's values laid over them, which may be all there is; None where too little is known.

    Raises:
        TeacherError: a value that is not allowed.
    """
    notes: list[str] = []
    known = {key: per_channel(given[key], channels, key, name, notes) for key in ("mean", "std") if key in given}
    if min(known.get("std", (1.0,))) <= 0:
        raise TeacherError(f"{name}: std is {list(known['std'])}", allowed="positive numbers")
    size = given.get("input_size")
    if size is not None and not (
        isinstance(size, list)
        and len(size) == 3
        and all(is_whole(v) for v in size)
        and size[0] == channels
        and all(side in SIDES for side in size[1:])
    ):
        raise TeacherError(f"{name}: input_size is {short_form(size)}", allowed=f"[{channels}, height, width]")
    if pixels is None:
        if size is None or len(known) < 2:
            return None
        pixels = Pixels(size[1], size[2], (size[1], size[2]), known["mean"], known["std"], "bilinear")
    elif size is not None:
        pixels = replace(pixels, height=size[1], width=size[2], resize=(size[1], size[2]))
    filter_name = given.get("interpolation")
    if filter_name is not None:
        pixels = replace(pixels, interpolation=_filter(filter_name, pixels.interpolation, notes))
    return replace(
        pixels, mean=known.get("mean", pixels.mean), std=known.get("std", pixels.std), notes=(*pixels.notes, *notes)
    )


def _kind(values: JsonView, name: str, model_type: str) -> str:
    """Name of the processor without "Image", "Fast", "Pil" and the ending of older versions."""
    written = values.get("image_processor_type") or values.get("feature_extractor_type")
    if written is None:
        kind = BY_MODEL.get(model_type, "")
    else:
        kind = str(written)
        for ending in ("Fast", "Pil", "ImageProcessor", "FeatureExtractor"):
            kind = kind.removesuffix(ending)
    if kind not in PROCESSORS:
        raise TeacherError(
            f"{name}: its processor is {short_form(written)}"
            if written
            else f"{name}: nothing says which its processor is",
            allowed=f"{', '.join(sorted(PROCESSORS))}, each with ImageProcessor at its end",
            action="give mean, std and input_size in a YAML list, see docs/guides/teachers.md",
        )
    return kind


def _sizes(values: JsonView, kind: str, name: str, notes: list[str]) -> tuple[tuple[int, ...], tuple[int, int]]:
    """The size to which a photo is resized, the shorter side or both, and the size cut out of its center."""
    defaults = PROCESSORS[kind]
    size = _side(values.get("size", defaults.size), defaults.is_square, "size", name)
    if kind == "PPLCNet" and values.get("resize_short", 256) is not None:
        size = _side(values.get("resize_short", 256), False, "resize_short", name)
        notes.append("its processor rounds the longer side up, here it is cut")
    crops = _flag(values, "do_center_crop", defaults.crop is not None, name)
    crop = _side(values.get("crop_size", defaults.crop or defaults.size), True, "crop_size", name) if crops else None
    if not _flag(values, "do_resize", True, name):
        notes.append("its processor resizes no picture; here each is")
    if kind == "ConvNext" and len(size) == 1:
        size, crop = _like_convnext(values, size[0], crop, name)
    elif kind == "Levit" and len(size) == 1:
        size = (int(256 / 224 * size[0]),)
    elif kind == "PoolFormer" and values.get("crop_pct", 0.9) is not None:
        size = tuple(int(side / _share(values, 0.9, name)) for side in size)
        size = size[:1] if len(set(size)) == 1 else size
    elif kind == "Perceiver" and crop is not None:
        notes.append("its processor crops a photo before it resizes it; here it is resized first")
        return crop, (size[0], size[-1])
    if crop is None:
        if len(size) == 1:
            notes.append("its processor does not crop; here what is longer than high or wide is cut off")
        crop = (size[0], size[-1])
    if crop[0] > size[0] or crop[-1] > size[-1]:
        raise TeacherError(
            f"{name}: preprocessor_config.json cuts {list(crop)} pixels out of {list(size)}",
            allowed="a crop_size of at most the size; what lies beyond would be black",
        )
    return size, (crop[0], crop[-1])


def _like_convnext(
    values: JsonView, shorter: int, crop: tuple[int, ...] | None, name: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Below 384 pixels the shorter side becomes size / crop_pct and the center is cut out; else all is distorted."""
    if shorter >= _LIMIT_OF_CROPPING:
        return (shorter, shorter), crop or (shorter, shorter)
    return (int(shorter / _share(values, 0.875, name)),), crop or (shorter, shorter)


def _share(values: JsonView, default: float, name: str) -> float:
    share = values.get("crop_pct", default)
    share = default if share is None else share
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0.1 <= share <= 1:
        raise TeacherError(f"{name}: crop_pct is {short_form(share)}", allowed="a number from 0.1 to 1")
    return float(share)


def _side(value: object, is_square: bool, key: str, name: str) -> tuple[int, ...]:
    """One side (the shorter) or height and width."""
    sides: tuple[object, ...]
    if isinstance(value, Mapping):
        known = {k: v for k, v in value.items() if v is not None}
        sides = (
            (known.get("shortest_edge"),) if "shortest_edge" in known else (known.get("height"), known.get("width"))
        )
        if "longest_edge" in known:
            sides = (None,)
    elif isinstance(value, list) and len(value) == 2:
        sides = tuple(value)
    else:
        sides = (value, value) if is_square else (value,)
    whole = tuple(side for side in sides if is_whole(side) and side in SIDES)
    if len(whole) != len(sides):
        raise TeacherError(
            f"{name}: {key} is {short_form(value)}",
            allowed=f"height and width, or shortest_edge, each from {SIDES.start} to {SIDES.stop - 1}",
        )
    return whole


def _affine(
    values: JsonView, kind: str, channels: int, name: str, notes: list[str]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std that have the same effect on values in [0, 1] as the processor has on bytes.

    Bytes are multiplied by rescale_factor (1 / 255 unless a file says otherwise), then mean is subtracted and the
    rest divided by std: a byte is 255 times the value in [0, 1].
    """
    mean, std = (
        per_channel(default if values.get(key) is None else values[key], channels, key, name, notes)
        for key, default in zip(("image_mean", "image_std"), PROCESSORS[kind].normal, strict=True)
    )
    if min(std) <= 0:
        raise TeacherError(f"{name}: image_std is {list(std)}", allowed="positive numbers")
    again = std if kind == "EfficientNet" and _flag(values, "include_top", True, name) else (1.0,) * channels
    if not _flag(values, "do_normalize", True, name) or kind == "MobileViT":  # whose processor never does
        mean, std = (0.0,) * channels, (1.0,) * channels
    factor = values.get("rescale_factor")
    factor = 1 / 255 if factor is None else factor
    if not isinstance(factor, int | float) or isinstance(factor, bool) or not 1e-6 <= factor <= 1:
        raise TeacherError(f"{name}: rescale_factor is {short_form(factor)}", allowed="a number from 0.000001 to 1")
    rescales = _flag(values, "do_rescale", True, name)
    scale = 255 * float(factor) if rescales else 255.0
    scale = 1.0 if math.isclose(scale, 1.0, rel_tol=1e-6) else scale
    shifts = rescales and kind == "EfficientNet" and _flag(values, "rescale_offset", False, name)
    moved = tuple((m + (1.0 if shifts else 0.0)) / scale for m in mean)
    return moved, tuple(s * twice / scale for s, twice in zip(std, again, strict=True))


def _filter(value: object, default: str, notes: list[str]) -> str:
    if value is None:
        return default
    if is_whole(value) and value in range(len(_FILTER_NUMBERS)):
        return _FILTER_NUMBERS[value]
    if value in FILTERS:
        return str(value)
    notes.append(f"unknown filter {short_form(value)}, {default} is used")
    return default


def _flag(values: JsonView, key: str, default: bool, name: str) -> bool:
    value = values.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise TeacherError(f"{name}: {key} is {short_form(value)}", allowed="true or false")
    return value
