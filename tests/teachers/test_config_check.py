"""What a teacher's config.json may say, and what is guessed where it says nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pico import pico_folder

from hf_free.errors import TeacherError
from hf_free.teachers.loader import load_teacher
from hf_free.teachers.reference import TeacherReference


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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return pico_folder(tmp_path / "teacher", "conv4", label_names=["a", "b", "c", "d", "e"])


def test_labels_are_read_wherever_they_stand(folder):
    _edit(
        folder,
        label_names=...,
        pretrained_cfg={"label_names": {"0": "n0", "1": "n1", "2": "n2", "3": "n3", "4": "n4"}},
    )
    assert _load(folder).record.label_names == ("n0", "n1", "n2", "n3", "n4")
    _edit(folder, label_descriptions={"n0": "tench\nfish", "n3": "shark"})
    record = _load(folder).record
    assert record.label_names == ("n0", "n1", "n2", "n3", "n4")
    assert record.label_descriptions == ("tench fish", "n1", "n2", "shark", "n4")
    _edit(folder, label_names=["too", "few"])
    record = _load(folder).record
    assert record.label_names is None
    assert "label_names do not name 5 classes" in record.notes[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": ...}, "has no 'architecture'"),
        ({"architecture": "conv4_33"}, "knows no architecture 'conv4_33'"),
        ({"architecture": "os.system"}, "knows no architecture"),
        ({"architecture": "hf-hub:org/evil"}, "knows no architecture"),
        ({"architecture": 7}, "architecture is 7"),
        ({"num_classes": 0}, r"has no classifier \(num_classes 0\)"),
        ({"num_classes": 1}, "has 1 class"),
        ({"num_classes": "5"}, "num_classes is '5'"),
        ({"num_classes": 10**9}, "num_classes is 1000000000"),
        ({"num_classes": 6, "model_args": {"width": 8}}, "a head of 5 outputs for 6 classes"),
        ({"num_classes": 6}, "model_args.num_classes is 5 where the rest of config.json says 6"),
        ({"pretrained_cfg": {"input_size": [4, 32, 32]}}, "in_chans is 3 where"),
        ({"pretrained_cfg": {"input_size": [4, 32, 32]}, "model_args": {"width": 8}}, r"input_size is \[4, 32, 32\]"),
        ({"pretrained_cfg": {"input_size": [3, 32]}}, r"input_size is \[3, 32\]"),
        ({"pretrained_cfg": {"input_size": [3, 9999, 9999]}, "model_args": {}}, r"sides from 4 to 2048"),
        ({"pretrained_cfg": {"std": [0.5, 0, 0.5]}}, r"std is \[0.5, 0.0, 0.5\]"),
        ({"pretrained_cfg": {"mean": [0.5, 0.5]}}, r"mean is \[0.5, 0.5\]"),
        ({"pretrained_cfg": {"mean": "zero"}}, "mean is 'zero'"),
        ({"pretrained_cfg": {"mean": [10**400] * 3}}, "mean is \\[1000"),
        ({"pretrained_cfg": {"mean": [float("nan")] * 3}}, "mean is \\[nan"),
        ({"pretrained_cfg": {"std": 0}}, "std is "),
        ({"pretrained_cfg": {"std": -(10**400)}}, "std is -1000"),
        ({"model_args": {"img_size": [32, 32, 32]}}, r"model_args.img_size is \(32, 32, 32\)"),
        ({"model_args": {"img_size": [32]}}, r"model_args.img_size is \(32,\)"),
        ({"model_args": {"norm_eps": 10**400}}, "model_args.norm_eps is 1000"),
        (
            {"model_args": {"width": 16}},
            r"has other shapes: 25 tensors: .* blocks.0.conv.weight is \[8, 3, 3, 3\], not \[16, 3, 3, 3\]",
        ),
        ({"model_args": {"patch_size": 4}}, "timm cannot build conv4_32 .* unexpected keyword argument 'patch_size'"),
        ({"model_args": {"img_size": 12}}, "Conv-4 with an image size of 12x12"),
        ({"model_args": [1]}, "model_args is a list"),
    ],
)
def test_configurations_refused_by_name(folder, changes, message):
    _edit(folder, **changes)
    with pytest.raises(TeacherError, match=message) as caught:
        _load(folder)
    assert str(folder) in str(caught.value)


def test_a_pooled_learner_is_no_unknown_network(folder):
    _edit(folder, architecture="pooled", hf_free={})
    with pytest.raises(TeacherError, match="is a learner of hf-free, 'pooled', and no classifier"):
        _load(folder)


def test_unknown_architecture_suggests_close_ones(folder):
    _edit(folder, architecture="resnet10_smal")
    with pytest.raises(TeacherError, match="close: resnet10_small"):
        _load(folder)


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"pretrained_cfg": {"num_classes": 10}}, "pretrained_cfg.num_classes 10 is ignored, num_classes is 5"),
        ({"pretrained_cfg": {"mean": [0.4]}}, "mean has one value, which is used for all 3 channels"),
        ({"pretrained_cfg": {"std": 0.2}}, "std has one value, which is used for all 3 channels"),
    ],
)
def test_what_is_guessed_of_a_configuration_is_noted(folder, changes, note):
    _edit(folder, **changes)
    assert _load(folder).record.notes == (note,)


def test_a_mean_of_0_is_a_mean(folder):
    _edit(folder, pretrained_cfg={"mean": 0, "std": 1})
    record = _load(folder).record
    assert (record.mean, record.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def test_old_layout_without_pretrained_cfg(folder):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    flat = {"architecture": "conv4_32", "num_classes": 5, "model_args": {"width": 8}, **config["pretrained_cfg"]}
    path.write_text(json.dumps(flat))
    assert _load(folder).record.input_size == (3, 32, 32)


def test_a_classifier_made_of_a_learner_is_named_so(folder):
    _edit(folder, architecture="pooled", hf_free={})
    (folder / "classifier.json").write_text("{}")
    with pytest.raises(TeacherError, match=r"is a classifier of hf-free, made of a learner[\s\S]*hf-free predict"):
        _load(folder)
