"""`model_args`: what timm's own saving writes is accepted; what names code, files, other kinds of network is not."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import timm.models
import torch
from timm.models import save_for_hf
from torch import nn

from hf_free.backbones.model_args import check_model_args
from hf_free.errors import TeacherError
from hf_free.teachers.loader import load_teacher
from hf_free.teachers.reference import TeacherReference

VIT = {"img_size": 32, "patch_size": 8}

REFUSED = {
    # other kinds of network, or outputs of another kind
    "fork_feat", "head", "return_interm_layers", "out_features", "with_fc",
    # pairs of a word and a number
    "down_ops",
    # numbers that may be negative
    "msfa_indices",
    # modules
    "pos_embs",
}  # fmt: skip
"""Plain arguments of timm's classifiers that are refused, and why."""

MISSPELT = {"pos_drop_drate"}
"""An argument of timm up to 1.0.24 at least that later releases may spell like everybody else."""


@pytest.mark.parametrize(
    ("architecture", "arguments"),
    [
        ("test_resnet", {"zero_init_last": False}),
        ("test_resnet", {"replace_stem_pool": True, "down_kernel_size": 3, "in_chans": 1}),
        ("test_efficientnet", {"pad_type": "same"}),
        ("test_vit", {**VIT, "weight_init": "jax"}),
        ("test_vit", {**VIT, "proj_bias": False, "scale_attn_norm": True}),
        ("densenet121", {"memory_efficient": True, "growth_rate": 4, "block_config": (1, 1)}),
    ],
)
def test_what_timm_saves_is_a_teacher_with_the_same_answers(architecture, arguments, tmp_path):
    torch.manual_seed(0)
    network = timm.create_model(architecture, num_classes=3, **arguments).eval()
    for weight in network.get_classifier().parameters():
        nn.init.normal_(weight, std=0.5)
    save_for_hf(network, str(tmp_path), safe_serialization=True)
    if "model_args" not in (written := json.loads((tmp_path / "config.json").read_text())):
        # old releases have to be told, and do not write down how many channels there are
        _, *sides = network.pretrained_cfg["input_size"]
        network.pretrained_cfg = {**network.pretrained_cfg, "input_size": (arguments.get("in_chans", 3), *sides)}
        save_for_hf(network, str(tmp_path), safe_serialization=True, model_args=arguments)
        written = json.loads((tmp_path / "config.json").read_text())
    assert written["model_args"].keys() >= arguments.keys(), "timm writes what the network was built with"
    teacher = load_teacher(TeacherReference(str(tmp_path), is_local=True))
    size = 32 if "img_size" in arguments else 64
    images = torch.rand(2, arguments.get("in_chans", 3), size, size)
    torch.testing.assert_close(teacher.network(images), network(images))


def test_every_plain_argument_of_timms_classifiers_is_decided():
    refused, out_of_bounds, offered = set(), {}, set()
    for name, value in _arguments_of_timm():
        offered.add(name)
        try:
            check_model_args({name: value}, "org/good")
        except TeacherError as error:
            if "is not allowed" in error.given:
                refused.add(name)
            else:
                out_of_bounds[name] = value
    assert not out_of_bounds
    assert refused == (REFUSED | MISSPELT) & offered  # not every release has them all


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("out_features", ["x1_nocls"]),
        ("fork_feat", True),
        ("block_args", {"attn_layer": "se"}),
        ("conv_layer", "torch.nn.Conv2d"),
        ("hybrid_backbone", "x"),
        ("custom_load", True),
        ("url", "http://127.0.0.1"),
    ],
)
def test_code_files_and_other_kinds_of_network_are_refused(key, value):
    with pytest.raises(TeacherError, match=f"model_args.{key} is not allowed"):
        check_model_args({key: value}, "org/evil")


@pytest.mark.parametrize(
    ("key", "value"),
    [("token_mixers", ["pool", "os.system"]), ("downsamples", [True, 1]), ("res_scale_init_values", [None, "1"])],
)
def test_every_item_of_a_list_is_checked(key, value):
    with pytest.raises(TeacherError, match=f"model_args.{key} is "):
        check_model_args({key: value}, "org/evil")


def _arguments_of_timm() -> Iterator[tuple[str, Any]]:
    """(name, default) of the plain arguments of timm's classifiers: numbers, words, flags, and lists of them."""
    path = Path(timm.models.__file__).parent
    shims = {"factory", "features", "fx_features", "helpers", "hub", "layers", "registry"}
    for found in pkgutil.iter_modules([str(path)]):
        if found.name in shims:
            continue
        module = importlib.import_module(f"timm.models.{found.name}")
        for kind in vars(module).values():
            if not (inspect.isclass(kind) and issubclass(kind, nn.Module) and kind.__module__ == module.__name__):
                continue
            parameters = inspect.signature(kind.__init__).parameters
            if not {"num_classes", "in_chans"} <= parameters.keys() or "out_indices" in parameters:
                continue
            for parameter in parameters.values():
                default = parameter.default
                if isinstance(default, bool | int | float | str) or (isinstance(default, tuple | list) and default):
                    yield parameter.name, list(default) if isinstance(default, tuple) else default
