"""Teachers of transformers from their files: provenance, refusals, and nothing left to chance."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

transformers = pytest.importorskip("transformers")

from pico import pico_files  # noqa: E402
from pico_transformers import pico_files_of, pico_folder_of  # noqa: E402

import hf_free.teachers.transformers_loader as transformers_loader  # noqa: E402
from hf_free.errors import MissingFilesError, TeacherError, UnfitTeacherError  # noqa: E402
from hf_free.teachers.listing import resolve  # noqa: E402
from hf_free.teachers.loader import load_teacher, read_record  # noqa: E402

NAMES = ["cat", "dog", "owl", "fox", "bee"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    return pico_folder_of(tmp_path_factory.mktemp("vit"), "vit", label_names=NAMES)


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    for path in saved.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def _edit(folder: Path, file: str = "config.json", **changes) -> None:
    values = json.loads((folder / file).read_text())
    values.update(changes)
    (folder / file).write_text(json.dumps({k: v for k, v in values.items() if v is not ...}))


def _edit_weights(folder: Path, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file(change(tensors) or tensors, folder / "model.safetensors")


def test_the_record_says_where_it_comes_from(folder):
    import hashlib

    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Pico\n")
    torch.manual_seed(0)
    before, level = torch.random.get_rng_state(), transformers.logging.get_verbosity()
    record = read_record(folder)
    assert torch.equal(torch.random.get_rng_state(), before), "loading must not move a run's random numbers"
    assert transformers.logging.get_verbosity() == level
    assert (record.architecture, record.transformers_version) == (
        "ViTForImageClassification",
        transformers.__version__,
    )
    assert (record.timm_version, record.license, record.label_names) == ("", "mit", tuple(NAMES))
    assert (record.input_size, record.mean, record.std) == ((3, 32, 32), (0.5, 0.4, 0.3), (0.25, 0.2, 0.3))
    assert (record.interpolation, record.resize, record.crop) == ("bicubic", (32, 32), None)
    assert (record.num_features, record.parameters, record.fixed_input_size) == (16, 7941, True)
    assert record.weight_bytes == 4 * 7941
    assert record.normalization == {"LayerNorm": 5}
    files = ("config.json", "model.safetensors", "preprocessor_config.json")
    assert record.sha256 == {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files}
    assert record.notes == ()


def test_it_is_fetched_at_one_commit_with_the_settings_of_its_pixels(hub, tokens, run_client):
    files = pico_files_of("vit", label_names=NAMES)
    hub.add_repo("lab/own-vit", {**files, "README.md": b"---\nlicense: apache-2.0\n---\n"}, private=True)
    hub.add_repo("lab/own-timm", {**pico_files(), "preprocessor_config.json": b"{}"})
    hub.add_repo("lab/half-vit", files)
    code = """
import json, torch
from hf_free.hub.snapshot import fetch_snapshot
from hf_free.teachers.loader import read_record
from hf_free.teachers.pool import TeacherPool
pool = TeacherPool(["lab/own-vit", "lab/own-vit:0-2", "lab/own-timm"], strict=True)
again = TeacherPool([pool.records[0]], strict=True)
images = torch.ones(1, 3, 32, 32)
commit = fetch_snapshot("lab/half-vit").commit  # without the optional files, as the cache of an older hf-free has it
half = read_record(f"lab/half-vit@{commit}")
same = torch.equal(again[0].logits(images), pool[0].logits(images))
print(json.dumps([[r.to_dict() for r in [*pool.records, half]], same]))
"""
    (own, part, timm, half), same = run_client(code, token=tokens["alice"]).json
    assert (own["repo_id"], own["private"], own["license"]) == ("lab/own-vit", True, "apache-2.0")
    assert len(own["commit"]) == 40
    assert set(own["sha256"]) == {"config.json", "model.safetensors", "preprocessor_config.json"}
    assert (part["num_classes"], part["label_names"]) == (3, NAMES[:3])
    assert set(timm["sha256"]) == {"config.json", "model.safetensors"}, "of timm's nothing else is read"
    assert half["mean"] == [0.5, 0.4, 0.3]
    assert same


def test_a_repository_without_settings_needs_a_list(folder):
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(TeacherError, match=r"no preprocessor_config\.json") as told:
        load_teacher(folder)
    assert "YAML list" in told.value.action
    entries = folder / "teachers.yaml"
    entries.write_text(
        f"- {{path: {folder}, mean: 0.5, std: 0.25, input_size: [3, 32, 32], label_names: [1, 2, 3, 4, e]}}"
    )
    (reference,) = resolve([str(entries)])
    record = load_teacher(reference).record
    assert (record.mean, record.label_names) == ((0.5, 0.5, 0.5), ("1", "2", "3", "4", "e"))


def test_the_processor_s_own_file_wins(folder):
    own = {"image_processor": {"image_processor_type": "ViTImageProcessor", "size": 32, "image_mean": [0.1, 0.1, 0.1]}}
    (folder / "processor_config.json").write_text(json.dumps(own))
    assert read_record(folder).mean == (0.1, 0.1, 0.1)


@pytest.mark.parametrize("family", ["vit", "beit", "swin"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_weights_are_computed_with_in_32_bits(family, dtype, tmp_path):
    pico_folder_of(tmp_path, family)
    tensors = {name: t.to(dtype) if t.is_floating_point() else t for name, t in
               load_file(tmp_path / "model.safetensors").items()}  # fmt: skip
    save_file(tensors, tmp_path / "model.safetensors")
    teacher = load_teacher(tmp_path)
    assert {p.dtype for p in teacher.network.parameters()} == {torch.float32}
    assert f"its {str(dtype).removeprefix('torch.')} weights" in teacher.record.notes[0]
    whole = pico_folder_of(tmp_path / "whole", family)
    images = torch.rand(2, 3, 32, 32)
    assert torch.allclose(teacher.logits(images), load_teacher(whole).logits(images), atol=0.05)


def _without_head(tensors):
    return {name: t for name, t in tensors.items() if not name.startswith("classifier")}


def _as_bytes(tensors):
    return {name: t.to(torch.int8) if name == "classifier.weight" else t for name, t in tensors.items()}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (_without_head, TeacherError, "lacks 2 tensor.*classifier.bias"),
        (lambda t: {f"model.{name}": v for name, v in t.items()}, TeacherError, "lacks"),
        (lambda t: {**t, "adapter.lora_A": torch.zeros(2)}, TeacherError, "has extra 1 tensor.*adapter.lora_A"),
        (_as_bytes, TeacherError, "tensor classifier.weight has type I8"),
        (lambda t: {**t, "classifier.weight": torch.zeros(7, 16)}, TeacherError, "a head of 7 outputs for 5 classes"),
        (lambda t: {**t, "classifier.weight": torch.full((5, 16), float("nan"))}, UnfitTeacherError, "NaN"),
        (lambda t: {**t, **{n: torch.zeros_like(v) for n, v in t.items() if "classifier" in n}}, UnfitTeacherError,
         "constant output"),
        (lambda t: {n: v for n, v in t.items() if "layernorm_after" not in n}, TeacherError, "lacks 4 tensor"),
    ],
)  # fmt: skip
def test_weights_that_the_library_would_fill_in_or_drop_are_refused(folder, change, error, message, caplog):
    _edit_weights(folder, change)
    with caplog.at_level(logging.WARNING), pytest.raises(error, match=message):
        load_teacher(folder)
    assert not caplog.records, "what is wrong is said once, as the error"


def test_what_a_vit_may_hold_besides_is_left_out(folder):
    _edit_weights(folder, lambda t: {**t, "vit.pooler.dense.weight": torch.zeros(16, 16),
                                     "vit.embeddings.position_ids": torch.arange(17)})  # fmt: skip
    assert load_teacher(folder).record.parameters == 7941


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 65_536, "intermediate_size": 65_536}, "config.json asks for"),
        ({"architectures": ["ViTModel"]}, "is a ViTModel, no classifier of its type"),
        ({"architectures": ["BeitForImageClassification"]}, "is a BeitForImageClassification"),
        ({"model_type": "bert"}, "has no image classifier 'bert'"),
        ({"model_type": "vitt"}, "close: vit"),
        ({"model_type": "deit", "architectures": []}, "names no architectures"),
        ({"model_type": "imagegpt"}, "no gradient"),
        ({"model_type": "dinat"}, "natten"),
        ({"num_attention_heads": 3}, "other shapes"),
        ({"num_attention_heads": 0}, "cannot build"),
        ({"hidden_size": [16]}, "cannot build"),
        ({"image_size": 64}, "vit.embeddings.position_embeddings is"),
        ({"_attn_implementation_autoset": True}, None),
        ({"attn_implementation": "flash_attention_2", "return_dict": False, "torch_dtype": "bfloat16"}, None),
    ],
)
def test_configurations_that_do_not_fit_are_refused(folder, changes, message):
    _edit(folder, **changes)
    if message is None:
        assert load_teacher(folder).record.notes == ()
        return
    with pytest.raises(TeacherError, match=message):
        load_teacher(folder)


def test_large_networks_are_refused_before_memory_is_taken(folder):
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _edit(folder, hidden_size=60_000, intermediate_size=60_000, num_hidden_layers=38)
    with pytest.raises(TeacherError, match=r"config\.json asks for"):
        load_teacher(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18  # KiB


def test_a_grid_that_would_be_numbered_for_minutes_is_refused_at_once(tmp_path):
    levit = pico_folder_of(tmp_path, "levit")
    for image_size, patch_size in ((2000, 16), (64, 1), ([64, 2000], 16)):
        _edit(levit, image_size=image_size, patch_size=patch_size)
        with pytest.raises(TeacherError, match="rows of patches"):
            load_teacher(levit)


def test_sizes_that_a_network_was_not_made_for_are_said_or_refused(folder, tmp_path_factory):
    _edit(folder, "preprocessor_config.json", size={"height": 40, "width": 40})
    with pytest.raises(TeacherError, match="cannot answer about images of"):
        load_teacher(folder)
    swin = pico_folder_of(tmp_path_factory.mktemp("swin"), "swin")
    _edit(swin, "preprocessor_config.json", size={"height": 48, "width": 48})
    assert "was made for (32, 32)" in read_record(swin).notes[0]


def test_neither_code_nor_other_files_of_a_folder_are_read(folder, monkeypatch):
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "/etc/passwd"}')
    (folder / "generation_config.json").write_text("not JSON")
    (folder / "pytorch_model.bin").write_bytes(b"no pickle")
    (folder / "model.safetensors.index.json").write_text("{}")
    (folder / "modeling.py").write_text("raise SystemExit")
    assert load_teacher(folder).record.num_classes == 5
    _edit(folder, auto_map={"AutoModelForImageClassification": "modeling.Net"})
    with pytest.raises(TeacherError, match="code of its own"):
        load_teacher(folder)


def test_weights_in_several_files_are_refused_by_name(folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(MissingFilesError, match="weights in several files"):
        load_teacher(folder)


def test_without_the_extra_the_message_names_it(folder, monkeypatch):
    monkeypatch.setattr(transformers_loader, "is_installed", lambda: False)
    with pytest.raises(
        TeacherError, match="is a transformers model \\('vit'\\), and transformers is not installed"
    ) as told:
        load_teacher(folder)
    assert told.value.action == "pip install 'hf-free[transformers]'"


def test_a_weights_file_that_is_saved_anew_changes_no_loaded_teacher(folder):
    teacher = load_teacher(folder)
    images = torch.rand(2, 3, 32, 32)
    before = teacher.logits(images)
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-4096, 2)
        file.write(b"\0" * 4096)
    assert torch.equal(teacher.logits(images), before)


def test_the_library_is_not_imported_for_a_timm_teacher(tmp_path):
    from pico import pico_folder

    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "transformers"}
    try:
        load_teacher(pico_folder(tmp_path, "conv4"))
        assert "transformers" not in sys.modules
    finally:
        sys.modules.update(hidden)


def test_networks_for_gray_pictures(tmp_path):
    values = {"image_processor_type": "ViTImageProcessor", "size": 32, "image_mean": [0.5], "image_std": 0.25}
    teacher = load_teacher(pico_folder_of(tmp_path, "convnext", num_channels=1, processor=values))
    assert (teacher.record.input_size, teacher.record.mean, teacher.record.std) == ((1, 32, 32), (0.5,), (0.25,))
    assert teacher.logits(torch.rand(2, 3, 32, 32)).shape == (2, 5)
