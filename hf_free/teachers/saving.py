"""A network in memory -> a folder in timm's layout."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from hf_free.backbones.model_args import ModelArgs
from hf_free.errors import TeacherError
from hf_free.provenance.teacher_record import TeacherRecord
from hf_free.runtime.files import write_together
from hf_free.runtime.given import check_flags, given_path, short_form
from hf_free.runtime.saved_kind import OTHER, architecture_of, check_kind_stays, kind_of
from hf_free.runtime.storage import storage_explained
from hf_free.teachers.config_check import check_config
from hf_free.teachers.loader import record_of
from hf_free.teachers.teacher import Teacher


def save_teacher(
    network: nn.Module,
    folder: str | Path,
    *,
    label_names: Sequence[str] | np.ndarray | None = None,
    extra_cfg: Mapping[str, object] | None = None,
    model_args: ModelArgs | None = None,
    overwrite: bool = False,
) -> None:
    """Write a timm network in timm's Hub layout: `config.json` and `model.safetensors`, no pickle.

    Over an older one the two are exchanged together: whatever happens, they are never of two networks.

    Args:
        network: A timm classifier.
        folder: Made if it does not exist.
        label_names: One name per class, as a list or an array, written at the top level as timm does.
        extra_cfg: Fields of `pretrained_cfg` (input_size, mean, std, interpolation, ...) that replace timm's.
        model_args: Arguments `timm.create_model` needs to build the same network; None takes those that timm made it
            with.
        overwrite: Whether a model of another architecture that is there is replaced.

    Raises:
        TeacherError: no classifier of timm's, something about it that could not be read again, or a folder that holds
            anything but a teacher of the same architecture.
        ConfigError: what is no path or no truth value.
        StorageError: they cannot be written there; what was there stays.
    """
    from timm.models._hub import save_config_for_hf

    check_flags(overwrite=overwrite)
    place = given_path(folder, "folder", for_weights=True)
    check_kind_stays(place, OTHER, error=TeacherError)
    if isinstance(label_names, np.ndarray):
        label_names = label_names.tolist()
    extra_cfg = _check_savable(network, label_names, {} if extra_cfg is None else extra_cfg, model_args)
    config: dict[str, object] = {"pretrained_cfg": dict(extra_cfg)}
    if label_names is not None:
        config["label_names"] = list(label_names)
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
        storage_explained(Path(scratch) / "config.json"),
    ):
        written = Path(scratch) / "config.json"
        save_config_for_hf(
            network,
            written,  # type: ignore[arg-type]  # an older timm opens it as a path
            model_config=config,
            model_args=None if model_args is None else dict(model_args),
        )
        content = written.read_bytes()
    ours, theirs = json.loads(content)["architecture"], architecture_of(place)
    if not overwrite and kind_of(place) == OTHER and theirs != ours:
        raise TeacherError(
            f"{place} holds a model of {theirs or 'another library'}, and {ours} would replace it",
            allowed=f"a new folder, an empty one, or that of a teacher of {ours}",
            action="give another folder, or overwrite=True",
        )
    # Some networks (CoaT) hold a tensor under several names, others lie in memory channels-last: timm's own way of
    # saving refuses both.
    tensors = {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in network.state_dict().items()
    }
    weights = save(tensors, {"format": "pt"})
    write_together({place / "config.json": content, place / "model.safetensors": weights})


def _check_savable(network: object, label_names: object, extra_cfg: object, model_args: object) -> dict[str, object]:
    """Refuse what would be written and be refused, or passed over, by whoever reads it; the settings, plain.

    Raises:
        TeacherError: with what is allowed.
    """
    is_wrapped = hasattr(network, "_orig_mod")  # by torch.compile
    if (
        is_wrapped
        or not isinstance(network, nn.Module)
        or not isinstance(getattr(network, "pretrained_cfg", None), Mapping)
    ):
        raise TeacherError(
            f"a {type(network).__name__}, of which timm knows nothing",
            allowed="a classifier that timm.create_model made, itself and not wrapped (torch.compile, DataParallel)",
            action="keep other networks in memory: hf_free.teachers.in_memory.as_teacher",
        )
    if getattr(network, "num_classes", 2) < 2:
        raise TeacherError(
            f"a network of {network.num_classes} classes, which cannot be a teacher",
            allowed="classifiers of at least 2 classes",
            action="make it with num_classes=N",
        )
    if any(tensor.is_meta for tensor in network.state_dict().values()):
        raise TeacherError("a network without weights (device meta)", allowed="a network with its weights")
    if not isinstance(extra_cfg, Mapping) or not (model_args is None or isinstance(model_args, Mapping)):
        raise TeacherError("extra_cfg or model_args that are no mappings", allowed="names and values, as a dict")
    if label_names is not None:
        classes = getattr(network, "num_classes", None)
        names = list(label_names) if isinstance(label_names, list | tuple) else None
        if names is None or len(names) != classes or not all(isinstance(name, str | int) for name in names):
            shown = f"{len(names)} label names" if names is not None else f"label_names={short_form(label_names)}"
            raise TeacherError(
                f"{shown} for {classes} classes", allowed="a list with one name per class, in their order"
            )
    settings = {str(key): _plain_value(str(key), value) for key, value in extra_cfg.items()}
    for key, value in (model_args or {}).items():
        _plain_value(f"model_args.{key}", value)
    return settings


def _plain_value(key: str, value: object) -> object:
    """A setting as JSON has it; arrays and tensors become lists.

    Raises:
        TeacherError: it is nothing that JSON has.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise TeacherError(
            f"{key} is {short_form(value)}", allowed="texts, finite numbers, lists and mappings of them"
        ) from None
    return value


def record_for(network: Any, *, reference: str = "(in memory)", **known: Any) -> TeacherRecord:
    """Describe a timm network in memory.

    Args:
        network: A timm classifier; its `pretrained_cfg` gives what `known` does not.
        reference: How it is named in logs.
        known: Fields of a `config.json`'s `pretrained_cfg` (input_size, mean, std, label_names, ...).

    Raises:
        TeacherError: something that cannot serve as a teacher.
    """
    cfg = {**network.pretrained_cfg, **known}
    image_size = getattr(network, "_traits", {}).get("img_size")
    if "input_size" not in known and image_size is not None:
        cfg["input_size"] = (getattr(network, "in_chans", cfg["input_size"][0]), *image_size)
    config = {"architecture": cfg.get("architecture"), "num_classes": network.num_classes, "pretrained_cfg": cfg}
    spec = check_config(config, reference)
    dtype = str(next(network.parameters()).dtype).removeprefix("torch.")
    return record_of(network, replace(spec, notes=()), reference, dtype)


def build_teacher(network: nn.Module, record: TeacherRecord) -> Teacher:
    """Make a teacher of a network in memory; `record_for` writes its record."""
    return Teacher(network, record)
