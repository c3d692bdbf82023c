"""What a teacher's `config.json` may say, and what is refused.

A repository is written by a stranger: nothing in its configuration may name a file or an address, reach timm's loader,
or ask for a network of arbitrary size. Only fields read here go on to timm.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from hf_free.backbones.model_args import ModelArgs, check_model_args
from hf_free.errors import TeacherError, UnfitTeacherError
from hf_free.provenance.reading import Json, JsonView
from hf_free.runtime.given import from_home, short_form
from hf_free.runtime.saved_kind import holds_classifier
from hf_free.runtime.text import printable

MAX_CLASSES = 1_000_000
SIDES = range(4, 2049)
FILTERS = ("bilinear", "bicubic", "nearest", "lanczos", "box", "hamming", "random")
_ADDRESSES = ("url", "file", "state_dict", "hf_hub_id", "hf_hub_filename", "source")
DEFAULT_CROP_PCT = 0.875
"""timm's defaults for what a configuration leaves out (`timm.data.constants`)."""
_DEFAULTED = ("mean", "std", "fixed_input_size")
_CODE = ("auto_map", "custom_load", "custom_pipelines")
_MAX_LABEL_LENGTH = 200


@dataclass(frozen=True)
class TeacherSpec:
    """The checked contents of a `config.json`; see `TeacherRecord` for the meaning of the fields."""

    architecture: str
    num_classes: int
    model_args: ModelArgs
    input_size: tuple[int, int, int]
    fixed_input_size: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop: float | None
    label_names: tuple[str, ...] | None
    label_descriptions: tuple[str, ...] | None
    notes: tuple[str, ...]

    def pretrained_cfg(self) -> Json:
        """The part that timm reads while it builds the network; nothing of the repository's own is passed on."""
        return {
            "architecture": self.architecture,
            "num_classes": self.num_classes,
            "input_size": self.input_size,
            "fixed_input_size": self.fixed_input_size,
            "mean": self.mean,
            "std": self.std,
            "interpolation": self.interpolation,
        }


def check_config(config: object, name: str) -> TeacherSpec:
    """Check the parsed `config.json` of the teacher `name`.

    Raises:
        TeacherError: an unknown architecture, no classifier, one class, a model argument or
            a value that is not allowed.
    """
    if not isinstance(config, Mapping):
        raise TeacherError(f"{name}: config.json holds a {type(config).__name__}", allowed="a JSON object")
    architecture = _architecture(config, name)
    cfg = config.get("pretrained_cfg")
    if cfg is None:
        cfg = config  # timm before 0.9 wrote everything at the top level
    if not isinstance(cfg, Mapping):
        raise TeacherError(f"{name}: pretrained_cfg is a {type(cfg).__name__}", allowed="a JSON object")
    says_all = cfg.get("input_size") and not any(cfg.get(key) in (None, [], ()) for key in _DEFAULTED)
    defaults = {} if says_all else _timm_defaults(architecture)
    notes = [f"pretrained_cfg.{key} is ignored" for key in _ADDRESSES if cfg.get(key)]
    notes += [f"{key} is ignored, no code of a repository is run" for key in _CODE if config.get(key) or cfg.get(key)]

    num_classes = _num_classes(config, cfg, name)
    if cfg.get("num_classes") not in (None, num_classes):
        notes.append(
            f"pretrained_cfg.num_classes {short_form(cfg['num_classes'])} is ignored, num_classes is {num_classes}"
        )
    model_args = check_model_args(config.get("model_args") or {}, name)
    _agrees(model_args.pop("num_classes", num_classes), num_classes, "num_classes", name)
    input_size = _input_size(cfg.get("input_size") or defaults.get("input_size"), model_args, name)
    # 0 is a value, not a missing one; an empty list says nothing.
    mean, std = (
        per_channel(defaults[key], input_size[0], key, name, [])
        if cfg.get(key) in (None, [], ())
        else per_channel(cfg[key], input_size[0], key, name, notes)
        for key in ("mean", "std")
    )
    if min(std) <= 0:
        raise TeacherError(f"{name}: std is {list(std)}", allowed="positive numbers")
    interpolation = cfg.get("interpolation") or "bilinear"
    if interpolation not in FILTERS:
        notes.append(f"unknown interpolation {str(interpolation)[:40]!r}, bilinear is used")
        interpolation = "bilinear"
    crop, share = center_crop(cfg.get("crop_mode"), cfg.get("crop_pct")), cfg.get("crop_pct")
    if crop is not None and share is not None and share != crop:
        notes.append(f"crop_pct {short_form(share)} is not a number from 0.1 to 1, {crop} is used")
    names, descriptions = _labels(config, cfg, num_classes, notes)
    return TeacherSpec(
        architecture=architecture,
        num_classes=num_classes,
        model_args=model_args,
        input_size=input_size,
        fixed_input_size=bool(cfg.get("fixed_input_size", defaults.get("fixed_input_size"))),
        mean=mean,
        std=std,
        interpolation=interpolation,
        crop=crop,
        label_names=names,
        label_descriptions=descriptions,
        notes=tuple(notes),
    )


def check_classes(classes: tuple[int, ...], count: int, name: str) -> None:
    """Refuse an impossible choice of a head's outputs.

    Raises:
        TeacherError: an output that does not exist or is named twice, or fewer than two outputs.
    """
    if not all(0 <= index < count for index in classes) or not 2 <= len(set(classes)) == len(classes):
        raise TeacherError(
            f"{name}: classes {','.join(map(str, classes))}",
            allowed=f"at least two different ones from 0 to {count - 1}",
            action="name others, or none to take them all",
        )


def center_crop(mode: object, share: object) -> float | None:
    """timm's `crop_pct` where its `crop_mode` is to crop the center; None where the whole picture is shown."""
    if mode not in (None, "center"):
        return None
    return float(share) if isinstance(share, (int, float)) and 0.1 <= share <= 1 else DEFAULT_CROP_PCT


def _architecture(config: JsonView, name: str) -> str:
    """The timm name of the network, without a tag."""
    architecture = config.get("architecture")
    if architecture is None:
        raise TeacherError(
            f"{name}: config.json has no 'architecture'",
            allowed="image classifiers in timm's Hub layout",
            action="save the model with timm.models.push_to_hf_hub or hf_free.teachers.saving.save_teacher",
        )
    if not isinstance(architecture, str):
        raise TeacherError(f"{name}: architecture is {architecture!r}", allowed="the name of a timm model")
    import timm

    import hf_free.backbones.register  # noqa: F401  (registers Conv-4 and the small ResNets)

    # is_model would take a path or a source prefix for a question about another model.
    base = architecture.split(".", 1)[0]
    if isinstance(config.get("hf_free"), dict) and (config.get("num_classes") == 0 or not timm.is_model(base)):
        if holds_classifier(from_home(name)):
            raise TeacherError(
                f"{name} is a classifier of hf-free, made of a learner, and no teacher",
                allowed="classifiers of timm or transformers",
                action="name the learner's teachers, which its card lists; hf-free predict labels pictures with it",
            )
        raise TeacherError(
            f"{name} is a learner of hf-free, {architecture[:100]!r}, and no classifier",
            allowed="classifiers of at least 2 classes",
            action="name its teachers, which its card lists; hf-free adapt makes a classifier of it",
        )
    if not re.fullmatch(r"\w{1,100}", base) or not timm.is_model(base):
        close = difflib.get_close_matches(base[:100], timm.list_models(), n=3)
        raise TeacherError(
            f"{name}: timm {timm.__version__} knows no architecture {architecture[:100]!r}",
            allowed=f"a name of timm.list_models(); close: {', '.join(close)}" if close else "timm.list_models()",
            action="update timm, or give the file that registers your network: --import my_networks.py",
        )
    return base


def _timm_defaults(architecture: str) -> Json:
    """timm's own configuration of an architecture, for fields the repository leaves out."""
    import timm

    cfg = timm.get_pretrained_cfg(architecture)
    values = cfg.to_dict() if cfg is not None else {}
    return {
        "input_size": values.get("input_size", (3, 224, 224)),
        "mean": values.get("mean", (0.485, 0.456, 0.406)),
        "std": values.get("std", (0.229, 0.224, 0.225)),
        "fixed_input_size": values.get("fixed_input_size", False),
    }


def _num_classes(config: JsonView, cfg: JsonView, name: str) -> int:
    number = config.get("num_classes", cfg.get("num_classes"))
    if not is_whole(number) or number < 0 or number > MAX_CLASSES:
        raise TeacherError(f"{name}: num_classes is {number!r}", allowed=f"a whole number from 2 to {MAX_CLASSES}")
    if number < 2:
        what = "no classifier (num_classes 0)" if number == 0 else "1 class"
        kind = TeacherError if number == 0 else UnfitTeacherError
        raise kind(
            f"{name} has {what}",
            allowed="classifiers of at least 2 classes",
            action="leave it out; a feature extractor has no task to recover",
        )
    return number


def _input_size(value: object, model_args: ModelArgs, name: str) -> tuple[int, int, int]:
    allowed = f"(1 or 3 channels, height, width), sides from {SIDES.start} to {SIDES.stop - 1}"
    if not isinstance(value, list | tuple) or len(value) != 3 or not all(map(is_whole, value)):
        raise TeacherError(f"{name}: input_size is {value!r}", allowed=allowed)
    channels, height, width = value
    _agrees(model_args.get("in_chans", channels), channels, "in_chans", name)
    image_size = model_args.get("img_size")
    if image_size is not None:  # what the network was built for wins over the picture size it was measured at
        sides = (image_size, image_size) if is_whole(image_size) else image_size
        if not isinstance(sides, list | tuple) or len(sides) != 2:
            raise TeacherError(
                f"{name}: model_args.img_size is {image_size!r}", allowed="one side, or height and width"
            )
        height, width = sides
    if channels not in (1, 3) or height not in SIDES or width not in SIDES:
        raise TeacherError(f"{name}: input_size is {[channels, height, width]}", allowed=allowed)
    return channels, height, width


def per_channel(value: Any, channels: int, key: str, name: str, notes: list[str]) -> tuple[float, ...]:
    """Mean or deviation of each channel; timm leaves three ImageNet values on networks for gray pictures."""
    values = list(value) if isinstance(value, list | tuple) else [value]
    # Compared, never converted: a whole number of 400 digits has no float. NaN fails the comparison.
    good = all(isinstance(v, int | float) and not isinstance(v, bool) and -1000 <= v <= 1000 for v in values)
    if not good or len(values) not in (1, 3):
        raise TeacherError(
            f"{name}: {key} is {short_form(value)}", allowed="a number from -1000 to 1000 for each channel"
        )
    if len(values) == channels:
        return tuple(map(float, values))
    notes.append(
        f"{key} has one value, which is used for all {channels} channels"
        if len(values) == 1
        else f"{key} has three values, whose mean is used for the one channel"
    )
    return (sum(values) / len(values),) * channels


def _labels(
    config: JsonView, cfg: JsonView, num_classes: int, notes: list[str]
) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """Names and descriptions of the classes; timm writes them at the top level, others into pretrained_cfg."""
    names = config.get("label_names") or cfg.get("label_names") or config.get("labels")
    if isinstance(names, Mapping):  # class index -> name
        by_index = {str(key): value for key, value in names.items()}
        names = [by_index.get(str(index)) for index in range(num_classes)]
    if names is None:
        return None, None
    fits = isinstance(names, list | tuple) and len(names) == num_classes
    if not fits or not all(isinstance(n, str | int) for n in names):
        notes.append(f"label_names do not name {num_classes} classes and are ignored")
        return None, None
    labels = tuple(clean_label(str(n)) for n in names)
    descriptions = config.get("label_descriptions") or cfg.get("label_descriptions")
    if not isinstance(descriptions, Mapping):
        return labels, None
    return labels, tuple(clean_label(str(descriptions.get(str(n), n))) for n in names)


def clean_label(label: str) -> str:
    """One line of printable text of bounded length: labels end in tables, pictures and cards."""
    return printable(label, instead=" ")[:_MAX_LABEL_LENGTH]


def _agrees(value: object, expected: int, key: str, name: str) -> None:
    if value != expected:
        raise TeacherError(
            f"{name}: model_args.{key} is {value!r} where the rest of config.json says {expected}",
            action="correct its config.json, or leave it out",
        )


def is_whole(value: object) -> TypeGuard[int]:
    """Whether a value is a whole number; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)
