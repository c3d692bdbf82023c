"""A network in memory, saved in timm's layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from pico import pico_folder, pico_network, pico_teacher
from safetensors.torch import load_file

from hf_free.errors import StorageError, TeacherError
from hf_free.teachers.loader import load_teacher
from hf_free.teachers.reference import TeacherReference
from hf_free.teachers.saving import save_teacher
from hf_free.teachers.teacher import Teacher


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return pico_folder(tmp_path / "teacher", "conv4")


def _load(folder: Path) -> Teacher:
    return load_teacher(TeacherReference(str(folder), is_local=True))


def _same_answers(teacher: Teacher, kind: str = "conv4") -> None:
    images = torch.rand(3, 3, 32, 32)
    torch.testing.assert_close(teacher.logits(images), pico_teacher(kind).logits(images))


@pytest.mark.parametrize("kind", ["conv4", "resnet", "convnext"])
def test_a_network_channels_last_is_saved(kind, tmp_path):
    network = pico_network(kind).to(memory_format=torch.channels_last)
    assert any(not tensor.is_contiguous() for tensor in network.state_dict().values())
    cfg = {"input_size": (3, 32, 32), "mean": (0.5, 0.4, 0.3), "std": (0.25, 0.2, 0.3)}
    save_teacher(network, tmp_path, extra_cfg=cfg)
    _same_answers(_load(tmp_path), kind)
    assert any(not tensor.is_contiguous() for tensor in network.state_dict().values()), "the network stays as it was"


def test_a_loaded_teachers_network_can_be_saved_again(folder, tmp_path):
    save_teacher(_load(folder).network, tmp_path / "again")
    assert load_file(tmp_path / "again" / "model.safetensors").keys() == load_file(folder / "model.safetensors").keys()


def test_weights_that_cannot_be_written_leave_the_configuration_of_the_old_ones(folder):
    before = (folder / "config.json").read_bytes()
    (folder / "model.safetensors").rename(folder / "weights")
    (folder / "model.safetensors").mkdir()  # in the way, as anybody but root meets in a folder of somebody else
    with pytest.raises(StorageError, match="unchanged"):
        save_teacher(pico_network("resnet"), folder, overwrite=True)
    assert (folder / "config.json").read_bytes() == before
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "weights"}


@pytest.mark.parametrize("architecture", ["test_vit", "test_convnext", "test_resnet", "test_efficientnet"])
def test_a_new_network_is_a_teacher_only_if_its_head_distinguishes(architecture, tmp_path):
    torch.manual_seed(0)
    network = timm.create_model(architecture, num_classes=5).eval()
    torch.nn.init.zeros_(network.get_classifier().weight)  # as six of timm's families leave it
    save_teacher(network, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    with pytest.raises(TeacherError, match="has a constant output"):
        _load(tmp_path)
    assert config["num_classes"] == 5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_weights_stay_in_memory(tmp_path, dtype):
    network = pico_network("vit").to(dtype)
    save_teacher(network, tmp_path)
    teacher = _load(tmp_path)
    assert {p.dtype for p in teacher.network.parameters()} == {dtype}
    assert teacher.record.weight_dtype == str(dtype).removeprefix("torch.")
    assert all(torch.equal(v, network.state_dict()[k]) for k, v in teacher.network.state_dict().items())


def test_a_network_without_classes_is_not_saved_as_a_teacher(tmp_path):
    with pytest.raises(TeacherError, match="a network of 0 classes, which cannot be a teacher"):
        save_teacher(timm.create_model("test_resnet", num_classes=0), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_tensors_under_several_names_are_saved(tmp_path):
    """CoaT shares its position encodings between blocks; timm's own way of saving refuses it."""
    with torch.random.fork_rng(devices=[]):
        network = timm.create_model(
            "coat_tiny", num_classes=3, embed_dims=(16, 16, 16, 16), serial_depths=(2, 1, 1, 1)
        )
    network = network.eval()
    save_teacher(network, tmp_path, extra_cfg={"input_size": (3, 64, 64)}, model_args=None)
    kept = load_file(tmp_path / "model.safetensors")
    assert kept.keys() == network.state_dict().keys()
    assert all(torch.equal(kept[key], value) for key, value in network.state_dict().items())


def test_a_model_of_another_architecture_is_replaced_only_if_asked(folder, tmp_path):
    save_teacher(pico_network("conv4"), folder)  # the same again
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(TeacherError, match=r"holds a model of \S+, and \S+ would replace it[\s\S]*overwrite=True"):
        save_teacher(pico_network("vit"), folder)
    assert (folder / "model.safetensors").read_bytes() == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"architectures": ["ViTForImageClassification"]}')
    with pytest.raises(TeacherError, match="holds a model of another library"):
        save_teacher(pico_network("vit"), tmp_path / "other")
    save_teacher(pico_network("vit"), folder, overwrite=True)
    assert json.loads((folder / "config.json").read_text())["architecture"] != "conv4"


def test_label_names_may_be_an_array(tmp_path):
    network = pico_network("vit")
    names = [f"class {index}" for index in range(network.num_classes)]
    save_teacher(network, tmp_path, label_names=np.array(names))
    assert json.loads((tmp_path / "config.json").read_text())["label_names"] == names
