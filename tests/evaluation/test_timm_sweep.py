"""Every kind of architecture is taken through loading, answers, one step of FIVE and one of BELL."""

from __future__ import annotations

import json

import pytest
import timm
import torch
from safetensors import SafetensorError
from torch import nn

from hf_free.evaluation.timm_sweep import (
    REDUCTIONS,
    STEPS,
    Candidate,
    SweepRow,
    list_modules,
    smallest_classifier,
    sweep,
    try_model,
)

TESTS = sorted(timm.list_models("test_*"))


OTHERS = {
    "regnetx_002": {},
    "levit_128s": {"embed_dim": (32, 48, 64), "depth": (1, 1, 1), "num_heads": (2, 2, 2), "key_dim": 8},
    "gmlp_ti16_224": {},
    "mobilenetv3_small_050": {},
    "swin_tiny_patch4_window7_224": {"embed_dim": 16, "depths": (1, 1), "num_heads": (1, 2), "window_size": 4},
}
"""Grouped convolutions, attention over convolutions with two forms of head, a mixer, mobile blocks, windows."""


def test_timm_has_the_models_that_are_tried():
    assert len(TESTS) >= 18


@pytest.mark.parametrize(
    "name", [*TESTS[::3], *(pytest.param(name, marks=pytest.mark.long) for name in TESTS if name not in TESTS[::3])]
)
def test_timms_own_test_models(name: str) -> None:
    row = try_model(Candidate(name, 0), input_size=(3, 64, 64))
    assert (row.outcome, row.reason) == ("passed", "")
    assert list(row.seconds) == list(STEPS)
    assert row.normalization or "nfnet" in name


@pytest.mark.parametrize("name", OTHERS)
def test_other_kinds_at_reduced_size(name: str) -> None:
    row = try_model(Candidate(name, 0, OTHERS[name]), input_size=(3, 64, 64))
    assert (row.outcome, row.reason) == ("passed", "")
    assert row.input_size == (3, 64, 64)


def test_a_network_for_gray_pictures():
    row = try_model(Candidate("test_resnet", 0), input_size=(1, 48, 48))
    assert (row.outcome, row.input_size) == ("passed", (1, 48, 48))


def test_what_fails_is_listed_with_step_and_reason():
    row = try_model(Candidate("test_resnet", 0, {"block_args": {"attn_layer": "se"}}))
    assert (row.outcome, list(row.seconds)) == ("failed", ["build", "load"])
    assert "model_args.block_args is not allowed" in row.reason
    impossible = try_model(Candidate("test_vit", 0, {"num_heads": 7}))
    assert (impossible.outcome, list(impossible.seconds)) == ("failed", ["build"])


class _Deaf(nn.Module):
    """A network whose answers nobody can differentiate."""

    def __init__(self, num_classes: int = 2, in_chans: int = 3) -> None:
        super().__init__()
        self.num_classes, self.num_features, self.head = num_classes, in_chans, nn.Linear(in_chans, num_classes)

    def get_classifier(self) -> nn.Module:
        return self.head

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        return x.detach()

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        pooled = x.mean((2, 3))
        return pooled if pre_logits else self.head(pooled)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(x))


def deaf_for_sweep(pretrained: bool = False, **options: object) -> nn.Module:
    """A classifier through which no gradient goes."""
    from timm.models import build_model_with_cfg

    return build_model_with_cfg(_Deaf, "deaf_for_sweep", pretrained, **options)


def test_a_network_without_gradients_fails_at_five():
    from timm.models import generate_default_cfgs, register_model

    default_cfgs = generate_default_cfgs({"deaf_for_sweep.none": {"input_size": (3, 16, 16), "classifier": "head"}})
    globals()["default_cfgs"] = default_cfgs  # where timm looks for it
    register_model(deaf_for_sweep)
    row = try_model(Candidate("deaf_for_sweep", 0))
    assert (row.outcome, list(row.seconds)[-1]) == ("failed", "five")


def short_of_something_for_sweep(pretrained: bool = False, **options: object) -> nn.Module:
    """A network that this machine cannot build."""
    raise _LACKS.pop()


_LACKS: list[BaseException] = []


@pytest.mark.parametrize("lack", [MemoryError("x"), OSError("x"), ImportError("x"), SafetensorError("x")])
def test_what_a_machine_lacks_fails_one_model_alone(lack: Exception) -> None:
    from timm.models import register_model

    if not timm.is_model("short_of_something_for_sweep"):
        register_model(short_of_something_for_sweep)
    _LACKS.append(lack)
    row = try_model(Candidate("short_of_something_for_sweep", 0))
    assert (row.outcome, list(row.seconds)) == ("failed", ["build"])
    assert type(lack).__name__ in row.reason


def test_the_smallest_classifier_of_a_module_is_taken():
    counts = {
        name: sum(p.numel() for p in timm.create_model(name, num_classes=2).parameters())
        for name in timm.list_models(module="edgenext")
    }
    smallest = min(counts, key=counts.__getitem__)
    assert smallest_classifier("edgenext") == Candidate(smallest, counts[smallest])


def test_what_is_too_large_is_reduced():
    chosen = smallest_classifier("beit", max_parameters=20_000_000)
    assert chosen is not None
    assert chosen.model_args in REDUCTIONS
    built = timm.create_model(chosen.model, num_classes=2, **chosen.model_args)
    assert sum(p.numel() for p in built.parameters()) == chosen.parameters <= 20_000_000


def test_our_own_networks_are_swept_too():
    assert {"conv4", "resnet_small", "resnet", "vision_transformer"} <= set(list_modules())
    assert len(set(list_modules())) == len(list_modules())
    (row,) = sweep(["conv4"])
    assert (row.module, row.model, row.outcome) == ("conv4", "conv4_32", "passed")
    assert SweepRow.from_dict(json.loads(json.dumps(row.to_dict()))) == row
