"""Loader: what a repository says becomes a teacher, or is refused by name."""

from __future__ import annotations

import errno
import json
import struct
from pathlib import Path

import pytest
import timm
import torch
from pico import KINDS, pico_files, pico_folder, pico_teacher
from safetensors.torch import load_file, save_file

import hf_free.teachers.loader as loader
from hf_free.backbones.conv4 import Conv4
from hf_free.errors import MissingFilesError, TeacherError, UnfitTeacherError
from hf_free.teachers.loader import load_teacher, read_record
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.reference import TeacherReference
from hf_free.teachers.saving import save_teacher


def _load(folder: Path, classes: tuple[int, ...] | None = None):
    return load_teacher(TeacherReference(str(folder), is_local=True, classes=classes))


def _edit(folder: Path, pretrained_cfg: dict | None = None, **changes) -> None:
    """Change config.json; a value of `...` removes the key."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for target, entries in ((config, changes), (config["pretrained_cfg"], pretrained_cfg or {})):
        for key, value in entries.items():
            target.pop(key, None)
            if value is not ...:
                target[key] = value
    path.write_text(json.dumps(config))


def _edit_weights(folder: Path, change) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    save_file(change(tensors) or tensors, path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return pico_folder(tmp_path / "teacher", "conv4", label_names=["a", "b", "c", "d", "e"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"in_chans": 1, "size": 48, "num_classes": 3}])
def test_saved_and_loaded_teacher_answers_the_same(kind, options, tmp_path):
    expected = pico_teacher(kind, **options)
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    teacher = _load(pico_folder(tmp_path, kind, **options))
    assert torch.equal(torch.random.get_rng_state(), before), "loading must not move a run's random numbers"
    images = torch.rand(3, 3, 40, 56)
    torch.testing.assert_close(teacher(images).logits, expected(images).logits, rtol=0, atol=0)
    assert teacher.record.input_size == expected.record.input_size
    assert teacher.record.mean == expected.record.mean


def test_record_holds_provenance(folder):
    import hashlib

    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Pico\n")
    record = read_record(TeacherReference(str(folder), is_local=True))
    assert record.reference == str(folder)
    assert (record.repo_id, record.commit, record.license, record.private) == (None, None, "mit", False)
    assert (record.architecture, record.num_classes, record.input_size) == ("conv4_32", 5, (3, 32, 32))
    assert record.label_names == ("a", "b", "c", "d", "e")
    assert record.timm_version == timm.__version__
    weights = (folder / "model.safetensors").read_bytes()
    assert record.sha256["model.safetensors"] == hashlib.sha256(weights).hexdigest()
    assert (record.fixed_input_size, record.weight_dtype, record.notes) == (True, "float32", ())


def test_classes_choose_outputs_and_names(folder):
    images = torch.rand(4, 3, 32, 32)
    whole, part = _load(folder), _load(folder, (3, 0))
    torch.testing.assert_close(part.logits(images), whole.logits(images)[:, [3, 0]])
    torch.testing.assert_close(part(images).features, whole(images).features)
    assert (part.record.num_classes, part.record.label_names, part.record.classes) == (2, ("d", "a"), (3, 0))
    for classes in ((0, 5), (2,), (1, 1)):
        with pytest.raises(TeacherError, match="two different ones from 0 to 4"):
            _load(folder, classes)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("pretrained_strict", False),
        ("checkpoint_path", "/etc/passwd"),
        ("features_only", True),
        ("pretrained_cfg_overlay", {"url": "http://127.0.0.1/x"}),
        ("pretrained", True),
        ("pretrained_cfg", {"file": "/etc/passwd"}),
        ("cache_dir", "/tmp/x"),
        ("block", "os.system"),
        ("out_indices", [1]),
        ("scriptable", True),
        ("__class__", "x"),
    ],
)
def test_arguments_that_steer_loading_are_refused_by_name(folder, key, value):
    _edit(folder, model_args={key: value})
    with pytest.raises(TeacherError, match=rf"model_args\.{key} is not allowed"):
        _load(folder)


def test_large_networks_are_refused_before_memory_is_taken(folder):
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _edit(folder, architecture="vit_giant_patch14_224", model_args={"depth": 100, "embed_dim": 4096})
    with pytest.raises(TeacherError, match=r"lacks \d+ tensors"):
        _load(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18  # KiB: a quarter of a GiB, not 80 GiB


def test_the_one_tensor_of_another_shape_is_named_once(folder):
    weights = load_file(folder / "model.safetensors")
    weights["blocks.1.conv.weight"] = weights["blocks.1.conv.weight"][:, :4].contiguous()
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(TeacherError, match=r"tensor blocks.1.conv.weight is \[8, 4, 3, 3\], not \[8, 8, 3, 3\]"):
        _load(folder)


def test_addresses_in_the_configuration_are_ignored(folder):
    hostile = {
        "url": "http://127.0.0.1:9/x",
        "file": "/etc/passwd",
        "hf_hub_filename": "../x.bin",
        "custom_load": True,
    }
    _edit(folder, pretrained_cfg=hostile)
    teacher = _load(folder)
    assert teacher.record.notes == (
        *(f"pretrained_cfg.{key} is ignored" for key in ("url", "file", "hf_hub_filename")),
        "custom_load is ignored, no code of a repository is run",
    )
    assert not {"url", "file", "hf_hub_filename"} & {k for k, v in teacher.network.pretrained_cfg.items() if v}


def _with(key, change):
    return lambda tensors: tensors.update({key: change(tensors[key])})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("blocks.1.conv.bias") is None, "lacks tensor blocks.1.conv.bias"),
        (lambda t: {k: v for k, v in t.items() if "bn" not in k}, "lacks 20 tensors: blocks.0.bn.bias"),
        (lambda t: t.update({"evil": torch.zeros(3)}), "has extra tensor evil"),
        (_with("blocks.1.conv.weight", lambda w: w[:, :4].clone()), r"blocks.1.conv.weight is \[8, 4, 3, 3\], not"),
        (_with("head.weight", lambda w: w[:3].clone()), "a head of 3 outputs for 5 classes"),
        (_with("blocks.0.conv.weight", lambda w: w * torch.nan), "blocks.0.conv.weight holds NaN or infinite"),
        (_with("blocks.2.bn.running_var", lambda w: w / 0), "blocks.2.bn.running_var holds NaN or infinite"),
        (_with("head.weight", lambda w: w.to(torch.int8)), "head.weight has type I8"),
        (_with("head.weight", lambda w: w * 0), "has a constant output"),
        (_with("head.weight", lambda w: torch.full_like(w, 3e38)), "outputs NaN or infinite values"),
    ],
)
def test_weights_refused_by_name(folder, change, message):
    _edit_weights(folder, change)
    with pytest.raises(TeacherError, match=message):
        _load(folder)


def test_files_that_go_while_they_are_read_are_named(folder, monkeypatch):
    def gone(path):
        path.unlink()
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))

    monkeypatch.setattr("hf_free.hub.snapshot.sha256_of", gone)
    with pytest.raises(MissingFilesError, match=r"config\.json has gone while it was read\n.*\n  to do: "):
        load_teacher(str(folder))


@pytest.mark.parametrize("kept", [0, 4, 100, 5000])
def test_truncated_weights_are_refused(folder, kept):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(TeacherError, match=r"model.safetensors cannot be read, it is truncated or broken"):
        _load(folder)


def test_header_that_lies_about_its_length_is_refused(folder):
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 2**60) + path.read_bytes()[8:])
    with pytest.raises(TeacherError, match="truncated or broken"):
        _load(folder)


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": NaN', "[" * 100_000, "\u00ff"])
def test_broken_configuration_is_refused(folder, text):
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(TeacherError, match=r"cannot be read: |holds a list"):
        _load(folder)


def test_64_bit_weights_become_32_bit(folder):
    _edit_weights(folder, lambda t: {k: v.double() if v.is_floating_point() else v for k, v in t.items()})
    assert {p.dtype for p in _load(folder).network.parameters()} == {torch.float32}


def test_tables_that_timm_now_computes_may_be_in_the_file(tmp_path):
    network = timm.create_model(
        "swin_tiny_patch4_window7_224",
        num_classes=3,
        img_size=32,
        embed_dim=8,
        depths=(1, 1),
        num_heads=(1, 1),
        window_size=4,
    )
    save_teacher(network, tmp_path)
    tables = {k: v for k, v in network.named_buffers() if k not in network.state_dict()}
    assert tables
    _edit_weights(tmp_path, lambda tensors: tensors.update({k: v.clone() for k, v in tables.items()}))
    assert _load(tmp_path).record.num_features == 16


def test_gray_network_with_three_imagenet_means(tmp_path):
    folder = pico_folder(tmp_path, "resnet", in_chans=1)
    _edit(folder, pretrained_cfg={"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.2, 0.5], "interpolation": "magic"})
    record = _load(folder).record
    assert record.mean == pytest.approx((0.5,))
    assert record.std == pytest.approx((0.3,))
    assert record.interpolation == "bilinear"
    assert any("unknown interpolation 'magic'" in note for note in record.notes)
    assert "mean has three values, whose mean is used for the one channel" in record.notes


@pytest.mark.parametrize(("share", "used"), [(-1, 0.875), ("all", 0.875), (0.9, 0.9), (1, 1.0), (None, 0.875)])
def test_a_share_of_the_picture_that_is_none_is_told(tmp_path, share, used):
    folder = pico_folder(tmp_path)
    _edit(folder, pretrained_cfg={"crop_pct": share, "crop_mode": "center"})
    record = _load(folder).record
    assert record.crop == used
    assert any("crop_pct" in note for note in record.notes) == (share in (-1, "all"))


def test_public_private_and_gated_teachers_over_http(hub, tokens, run_client, tmp_path):
    commits = {}
    for name, options in (("public", {}), ("private", {"private": True}), ("gated", {"gated": True})):
        files = {**pico_files("conv4"), "README.md": b"---\nlicense: apache-2.0\n---\n"}
        commits[name] = hub.add_repo(f"alice/loader-{name}", files, **options)
    hub.add_repo("alice/loader-pickle", {"config.json": b"{}", "pytorch_model.bin": b"x"})
    code = """
import json, sys, torch
from hf_free.errors import HfFreeError
from hf_free.teachers.reference import TeacherReference
from hf_free.teachers.loader import load_teacher
out = {}
for name in ("public", "private", "gated", "pickle", "public:0,3"):
    try:
        teacher = load_teacher(TeacherReference.parse("alice/loader-" + name))
        record = teacher.record
        out[name] = [record.commit, record.license, record.private, bool(record.gated), record.reference,
                     teacher.logits(torch.zeros(1, 3, 32, 32))[0].tolist()]
    except HfFreeError as error:
        out[name] = type(error).__name__ + ": " + str(error)
print(json.dumps(out))
"""
    seen = run_client(code, token=tokens["alice"]).json
    logits = pico_teacher("conv4").logits(torch.zeros(1, 3, 32, 32))[0].detach()
    for name, is_private, is_gated in (("public", False, False), ("private", True, False), ("gated", False, True)):
        assert seen[name][:5] == [commits[name], "apache-2.0", is_private, is_gated, f"alice/loader-{name}"]
        assert seen[name][5] == pytest.approx(logits.tolist(), abs=1e-5)
    assert seen["public:0,3"][5] == pytest.approx(logits[[0, 3]].tolist(), abs=1e-5)
    assert seen["pickle"].startswith("MissingFilesError")
    stranger = run_client(code, home=tmp_path / "stranger").json
    assert stranger["public"][0] == commits["public"]
    assert stranger["private"].startswith("UnavailableRepositoryError")
    assert stranger["gated"].startswith("UnavailableRepositoryError")


# ---- more than there is


def test_weights_larger_than_the_free_memory_are_refused_before_they_are_read(tmp_path, monkeypatch):
    reference = TeacherReference.parse(str(pico_folder(tmp_path)))
    size = (tmp_path / "model.safetensors").stat().st_size
    monkeypatch.setattr(loader, "free_memory", lambda device: size - 1)
    with pytest.raises(UnfitTeacherError, match=f"more memory than there is: {size} bytes") as caught:
        load_teacher(reference)
    assert f"{size - 1} bytes free on cpu" in str(caught.value)
    monkeypatch.setattr(loader, "free_memory", lambda device: size)
    assert load_teacher(reference).record.num_classes == 5


def test_a_network_that_runs_out_of_memory_is_unfit(tmp_path, monkeypatch):
    reference = TeacherReference.parse(str(pico_folder(tmp_path)))
    forward = Conv4.forward_features
    monkeypatch.setattr(Conv4, "forward_features", lambda self, x: torch.empty(2**50, dtype=torch.uint8))
    with pytest.raises(UnfitTeacherError, match="needs more memory than there is"):
        load_teacher(reference)
    pool = TeacherPool([str(tmp_path)], strict=True)  # left out, named, and no end of a run
    assert len(pool) == 0
    assert "more memory" in pool.skipped[0][1]
    monkeypatch.setattr(Conv4, "forward_features", forward)
    assert load_teacher(reference).record.num_classes == 5


def test_names_of_an_older_timm_are_converted_by_its_own_filter(tmp_path):
    """timm before 0.9 kept Swin's downsampling at the end of a stage, and the head without a pooling layer."""
    import re

    small = {"embed_dim": 16, "depths": (1, 1, 1), "num_heads": (1, 2, 2), "img_size": 32, "window_size": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = timm.create_model("swin_tiny_patch4_window7_224", num_classes=5, **small).eval()
    save_teacher(network, tmp_path, extra_cfg={"input_size": (3, 32, 32)})
    images, expected = torch.rand(2, 3, 32, 32), _load(tmp_path)

    def old(key: str) -> str:
        key = re.sub(r"layers\.(\d+)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", key)
        return key.replace("head.fc.", "head.")

    def rename(tensors):
        return {old(key): tensor for key, tensor in tensors.items()}

    _edit_weights(tmp_path, rename)
    converted = _load(tmp_path)
    torch.testing.assert_close(converted.logits(images), expected.logits(images), rtol=0, atol=0)
    assert not converted.network.pretrained_cfg.get("state_dict")
    whole = load_file(tmp_path / "model.safetensors")
    for change, message in (
        ({"layers.0.blocks.0.mlp.fc1.weight": torch.zeros(3, 3)}, "lacks"),
        ({"extra": torch.zeros(1)}, "lacks|extra"),
        ({"head.weight": torch.zeros(7, 64)}, "lacks"),
        ({"norm.weight": torch.full((64,), torch.nan)}, "norm.weight holds NaN"),
    ):
        save_file({**whole, **change}, tmp_path / "model.safetensors")
        with pytest.raises(TeacherError, match=message):
            _load(tmp_path)


@pytest.mark.parametrize(
    ("kind", "fixed", "size"),
    [("conv4", True, 32), ("vit", False, 32), ("resnet", False, 48), ("mobilenet", False, 64)],
)
def test_fixed_and_flexible_inputs_are_told_apart_and_both_answer(tmp_path, kind, fixed, size):
    teacher = _load(pico_folder(tmp_path, kind, size=size))
    assert teacher.record.fixed_input_size is fixed
    assert teacher.record.input_size == (3, size, size)
    assert teacher.logits(torch.rand(1, 1, 20, 30)).shape == (1, 5)


def test_interpolation_is_the_teachers_own(tmp_path):
    folder, images = pico_folder(tmp_path), torch.rand(2, 3, 57, 40)
    seen = {}
    for name in ("nearest", "bilinear", "bicubic", "magic"):
        _edit(folder, pretrained_cfg={"interpolation": name})
        teacher = _load(folder)
        seen[name] = teacher.prepare(images)
        assert ("unknown interpolation" in " ".join(teacher.record.notes)) == (name == "magic")
    assert torch.equal(seen["magic"], seen["bilinear"])
    assert not torch.equal(seen["nearest"], seen["bilinear"])
    assert not torch.equal(seen["bicubic"], seen["bilinear"])
