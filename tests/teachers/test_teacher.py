"""Teacher: preparation of images, features and logits, frozen whatever happens around it."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import timm
import torch
from pico import KINDS, pico_network, pico_teacher
from PIL import Image
from torch import nn

from hf_free.errors import TeacherError
from hf_free.provenance.teacher_record import TeacherRecord
from hf_free.teachers.loader import try_out
from hf_free.teachers.saving import build_teacher, record_for
from hf_free.teachers.teacher import normalization_census, reduce_logits


def _picture(height: int, width: int) -> Image.Image:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def _tensor(picture: Image.Image) -> torch.Tensor:
    array = np.asarray(picture, dtype=np.float32) / 255
    return torch.from_numpy(np.atleast_3d(array)).permute(2, 0, 1)[None]


def test_prepare_normalizes_each_channel():
    teacher = pico_teacher("conv4")
    images = torch.rand(2, 3, 32, 32)
    prepared = teacher.prepare(images)
    for channel, (mean, std) in enumerate(zip((0.5, 0.4, 0.3), (0.25, 0.2, 0.3), strict=True)):
        torch.testing.assert_close(prepared[:, channel], (images[:, channel] - mean) / std)


@pytest.mark.parametrize("size", [(100, 70), (20, 16), (32, 50)])
@pytest.mark.parametrize("name", ["bilinear", "bicubic"])
def test_prepare_resizes_as_pillow_does(name, size):
    network = pico_network("conv4")
    record = record_for(network, input_size=(3, 32, 32), interpolation=name, mean=(0.0,), std=(1.0,))
    picture = _picture(*size)
    expected = _tensor(picture.resize((32, 32), Image.Resampling[name.upper()]))
    prepared = build_teacher(network, record).prepare(_tensor(picture))
    assert prepared.shape == (1, 3, 32, 32)
    assert (prepared - expected).abs().max() < 3 / 255  # Pillow rounds to bytes twice


def test_prepare_matches_channels_both_ways():
    picture = _picture(32, 32)
    gray_teacher = pico_teacher("resnet", in_chans=1)
    expected = (_tensor(picture.convert("L")) - 0.5) / 0.25
    assert (gray_teacher.prepare(_tensor(picture)) - expected).abs().max() < 4 * 1.01 / 255
    color_teacher = pico_teacher("conv4")
    gray = torch.rand(2, 1, 40, 24)
    torch.testing.assert_close(color_teacher.prepare(gray), color_teacher.prepare(gray.expand(-1, 3, -1, -1)))


def test_prepare_passes_gradients_through_every_pixel():
    teacher = pico_teacher("conv4")
    images = torch.rand(1, 1, 70, 90, requires_grad=True)
    teacher.prepare(images).sum().backward()
    assert (images.grad > 0).all()  # without antialiasing most pixels of a large image would get none


@pytest.mark.parametrize(
    "images", [torch.rand(3, 32, 32), torch.rand(1, 2, 32, 32), torch.zeros(1, 3, 32, 32, dtype=torch.uint8)]
)
def test_prepare_refuses_other_tensors(images):
    with pytest.raises(ValueError, match=r"allowed: float \(batch, 1 or 3, H, W\)"):
        pico_teacher("conv4").prepare(images)


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_the_classifiers_input(kind):
    teacher = pico_teacher(kind, num_classes=4)
    seen = []
    handle = teacher.network.get_classifier().register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = torch.rand(3, 3, 50, 50)
    logits, features = teacher(images)
    handle.remove()
    torch.testing.assert_close(features, seen[-1].flatten(1))
    assert features.shape == (3, teacher.record.num_features)
    assert logits.shape == (3, teacher.record.num_classes)
    torch.testing.assert_close(logits, teacher.network(teacher.prepare(images)))
    torch.testing.assert_close(teacher.logits(images), logits)
    torch.testing.assert_close(teacher.features(images), features)


def test_width_of_features_is_measured():
    teacher = pico_teacher("mobilenet")
    assert (teacher.network.num_features, teacher.record.num_features) == (288, 1024)


def test_teacher_stays_frozen_inside_other_modules():
    teacher = pico_teacher("resnet")
    images = torch.rand(4, 3, 32, 32, requires_grad=True)
    before = copy.deepcopy(teacher.network.state_dict())
    parent = nn.ModuleDict({"teacher": teacher, "student": nn.Linear(5, 5)})
    parent.train().requires_grad_(True)
    optimizer = torch.optim.SGD(parent.parameters(), lr=1.0)
    parent["student"](teacher(images).logits).sum().backward()
    optimizer.step()
    assert not teacher.training
    assert not any(module.training for module in teacher.network.modules())
    assert all(p.grad is None and not p.requires_grad for p in teacher.network.parameters())
    assert images.grad.abs().sum() > 0
    assert all(torch.equal(value, before[key]) for key, value in teacher.network.state_dict().items())
    assert set(parent.state_dict()) == {"student.weight", "student.bias"}  # no teacher in a learner's checkpoint


def test_teacher_follows_its_parent_to_a_device_and_can_be_copied():
    teacher = pico_teacher("conv4")
    copied = copy.deepcopy(teacher)
    nn.Sequential(teacher).to("meta")
    assert teacher.device.type == "meta"
    assert {p.device.type for p in teacher.network.parameters()} == {"meta"}
    assert teacher.logits(torch.rand(2, 3, 8, 8, device="meta")).shape == (2, 5)
    assert copied.logits(torch.rand(2, 3, 8, 8)).device.type == "cpu"
    assert copied.network is copied._answers.network


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["conv4", "vit"])
def test_low_precision_weights_stay_and_are_computed_in_32_bits(kind, dtype):
    rounded = pico_network(kind).to(dtype)
    exact = copy.deepcopy(rounded).float()
    teacher = build_teacher(rounded, record_for(rounded))
    assert {p.dtype for p in teacher.network.parameters()} == {dtype}
    assert teacher.record.weight_dtype == str(dtype).removeprefix("torch.")
    images = torch.rand(3, 3, 32, 32, requires_grad=True)
    expected = build_teacher(exact, record_for(exact))(images)
    logits, features = teacher(images)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected.logits)
    torch.testing.assert_close(features, expected.features)
    (gradient,) = torch.autograd.grad(logits.square().sum(), images)
    (wanted,) = torch.autograd.grad(expected.logits.square().sum(), images)
    torch.testing.assert_close(gradient, wanted)


def test_distilled_heads_are_averaged():
    network = timm.create_model(
        "deit_tiny_distilled_patch16_224", num_classes=4, img_size=32, embed_dim=16, depth=1, num_heads=1
    ).eval()
    teacher = build_teacher(network, record_for(network, input_size=(3, 32, 32)))
    x = torch.rand(2, 3, 32, 32)
    tokens = network.forward_features(teacher.prepare(x))
    expected = (network.head(tokens[:, 0]) + network.head_dist(tokens[:, 1])) / 2
    torch.testing.assert_close(teacher(x).logits, expected)
    torch.testing.assert_close(teacher(x).features, (tokens[:, 0] + tokens[:, 1]) / 2)


def test_several_outputs_are_reduced_to_one():
    a, b = torch.rand(2, 5), torch.rand(2, 5)
    torch.testing.assert_close(reduce_logits((a, b)), (a + b) / 2)
    assert reduce_logits(a) is a
    with pytest.raises(TeacherError, match="different shapes: \\(2, 5\\), \\(2, 4\\)"):
        reduce_logits([a, b[:, :4]])
    with pytest.raises(TeacherError, match="shape \\(2, 5, 1\\)"):
        reduce_logits(a[..., None])
    torch.testing.assert_close(reduce_logits([a, b, b]), (a + 2 * b) / 3)
    assert torch.equal(reduce_logits({"logits": a, "hidden": b[:, :2]}), a)
    torch.testing.assert_close(reduce_logits({"head": a, "head_dist": b}), (a + b) / 2)
    for nothing in ({}, (), None, "logits", (a, None)):
        with pytest.raises(TeacherError, match=f"type {type(nothing).__name__}|type list"):
            reduce_logits(nothing)


@pytest.mark.parametrize("name", ["levit_128s", "efficientformerv2_s0"])
def test_distilled_heads_of_other_families_are_averaged(name):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = timm.create_model(name, num_classes=3).eval()
    heads = network.get_classifier()
    assert len(heads) == 2
    teacher = build_teacher(network, record_for(network))
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        maps = network.forward_features(teacher.prepare(x))
        features = network.forward_head(maps, pre_logits=True)
        expected = sum(head(features) for head in heads) / 2
        torch.testing.assert_close(teacher(x).logits, expected)
        torch.testing.assert_close(teacher.logits(x), expected)


def test_normalization_is_counted_by_type():
    found = {kind: pico_teacher(kind).record.normalization for kind in ("conv4", "vit", "groupnorm", "mobilenet")}
    assert found["conv4"] == {"BatchNorm2d": 4}
    assert found["vit"] == {"LayerNorm": 5}
    assert found["groupnorm"] == {"GroupNormAct": 13}
    assert found["mobilenet"] == {"BatchNormAct2d": 34}
    block = nn.Sequential(nn.Conv2d(1, 1, 1), nn.LayerNorm(3, elementwise_affine=False), nn.InstanceNorm2d(2))
    assert normalization_census(block) == {"InstanceNorm2d": 1, "LayerNorm": 1}


@pytest.mark.parametrize(("kind", "layers"), [("conv4", 4), ("mobilenet", 34), ("vit", 0), ("groupnorm", 0)])
def test_batchnorm_layers(kind, layers):
    teacher = pico_teacher(kind)
    assert len(teacher.batchnorm_layers()) == layers
    assert teacher.record.has_batchnorm == (layers > 0)
    assert all(layer.running_var.ndim == 1 for layer in teacher.batchnorm_layers())


def test_record_survives_json():
    record = pico_teacher("vit", label_names=list("abcde")).record
    again = TeacherRecord.from_dict(json.loads(json.dumps({**record.to_dict(), "of_a_later_version": 1})))
    assert again == record
    assert again.label_names == ("a", "b", "c", "d", "e")
    assert again.input_size == (3, 32, 32)


def test_record_of_a_network_leaves_the_network_alone():
    network = pico_network("conv4").train()
    record = record_for(network)
    assert network.training
    assert all(p.requires_grad for p in network.parameters())
    assert (record.architecture, record.parameters, record.num_features) == ("conv4_32", 2205, 32)
    assert record.weight_bytes == 4 * (2205 + 4 * 2 * 8) + 4 * 8  # weights and statistics, four 64-bit counters


@pytest.mark.parametrize(
    "error",
    [
        StopIteration(),
        OSError(5, "x", "/some/place"),
        Exception("a\x1b[2Jb"),
        UserWarning("w"),
        KeyError("k"),
        SystemExit(3),
    ],
)
def test_a_network_that_fails_later_is_named(error):
    """One of the user's own may raise anything, at any time."""

    def fails(*_):
        raise error

    teacher = try_out(pico_teacher(size=16))
    teacher.network.forward_features = fails
    with pytest.raises(TeacherError, match=rf"pico/conv4 fails when it is asked: {type(error).__name__}"):
        teacher(torch.rand(2, 3, 16, 16))
    teacher.has_answered = False
    with pytest.raises(TeacherError, match=r"pico/conv4 (fails when it is asked|cannot answer about images)"):
        try_out(teacher)


def test_a_lack_of_memory_is_not_the_networks_fault():
    def fails(*_):
        raise MemoryError

    teacher = try_out(pico_teacher(size=16))
    teacher.network.forward_features = fails
    with pytest.raises(MemoryError):
        teacher(torch.rand(2, 3, 16, 16))


def test_a_teacher_is_shown_by_what_it_is():
    teacher = pico_teacher("conv4", num_classes=3)
    assert repr(teacher) == f"Teacher({teacher.record.reference!r}, {teacher.record.architecture}, 3 classes)"
