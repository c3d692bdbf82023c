"""The examples that make teachers or hold many of them, on data and checkpoints made on the spot."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from hf_free.backbones.custom import import_networks
from hf_free.config.sections import LearnerConfig
from hf_free.hub.loopback.card_rules import card_errors
from hf_free.learner.meta_learner import MetaLearner
from hf_free.teachers.loader import load_teacher
from hf_free.teachers.reference import TeacherReference

EXAMPLES = Path(__file__).parents[2] / "examples"
MODELS = """
from torch import nn


class CifarResNet(nn.Module):
    def __init__(self, depth, num_classes):
        super().__init__()


TinyResNet8 = VggSmall = CifarResNet


class ConvSmall(nn.Module):
    def __init__(self, in_chans, size, num_classes):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(in_chans, 16, 4, 2, 1), nn.Conv2d(16, 32, 4, 2, 1)
        self.fc1, self.fc2 = nn.Linear(32 * (size // 4) ** 2, 100), nn.Linear(100, num_classes)
"""
"""Definitions in the way of a bundle of checkpoints, of which only one network is used here."""


def run_example(monkeypatch, name: str, *arguments: str) -> dict:
    """Run an example as the command line does, in this process."""
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    return runpy.run_path(str(EXAMPLES / name), run_name="__main__")


# ---- real_teachers.py


@pytest.fixture
def checkpoints(tmp_path) -> Path:
    """A folder of one checkpoint, a gray network of MNIST's size that timm does not know."""
    folder = tmp_path / "checkpoints" / "somebody"
    folder.mkdir(parents=True)
    (folder.parent / "models.py").write_text(MODELS)
    readme = "# Networks\n\nSource: `somebody/networks`. License: MIT (stated in its repository).\n"
    (folder / "README.md").write_text(readme)
    torch.manual_seed(0)
    conv1, conv2 = nn.Conv2d(1, 16, 4, 2, 1), nn.Conv2d(16, 32, 4, 2, 1)
    layers = {"conv1": conv1, "conv2": conv2, "fc1": nn.Linear(32 * 49, 100), "fc2": nn.Linear(100, 10)}
    weights = {f"{name}.{key}": value for name, layer in layers.items() for key, value in layer.state_dict().items()}
    header = {"arch": "conv_small", "args": json.dumps({"in_chans": 1, "size": 28, "num_classes": 10}),
              "mean": "[0.1]", "std": "[0.3]", "dataset": "mnist", "published": "98.6 %"}  # fmt: skip
    save_file(weights, folder / "small.safetensors", header)
    return folder.parent


@pytest.fixture
def digits(tmp_path) -> Path:
    """`mnist/test/DIGIT/*.png`: gray squares, the brighter the higher the digit."""
    for digit in range(10):
        for index in range(2):
            path = tmp_path / "data" / "mnist" / "test" / str(digit) / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (28, 28), 25 * digit + index).save(path)
    return tmp_path / "data"


def test_a_public_checkpoint_becomes_a_teacher_and_is_measured(monkeypatch, capsys, checkpoints, digits, tmp_path):
    output = tmp_path / "zoo"
    run_example(
        monkeypatch, "zoo/real_teachers.py", "--checkpoints", str(checkpoints), "--output", str(output),
        "--data", str(digits),
    )  # fmt: skip
    folder = output / "mnist-conv-small28"
    teacher = load_teacher(TeacherReference.parse(str(folder)))
    record = teacher.record
    assert (record.architecture, record.input_size, record.num_classes) == ("conv_small28", (1, 28, 28), 10)
    assert (record.mean, record.std, record.num_features) == ((0.1,), (0.3,), 100)
    assert record.label_names == tuple("0123456789")
    assert record.license == "mit"
    backbone = MetaLearner(LearnerConfig(backbone="conv_small28", image_size=28, channels=1))
    assert backbone.backbone_dim == 100, "without its classifier it gives its features"
    before, after = load_file(checkpoints / "somebody" / "small.safetensors"), load_file(folder / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    card = (folder / "README.md").read_text()
    assert not card_errors(card)
    for part in ("somebody/networks", "98.6 %", "timm does not know this network"):
        assert part in card
    squares = torch.stack([torch.full((1, 28, 28), (25 * (i // 2) + i % 2) / 255) for i in range(20)])
    right = (teacher.logits(squares).argmax(1) == torch.arange(20) // 2).float().mean().item()
    assert f"mnist-conv-small28: mit, {100 * right:.2f} % of 20 pictures of mnist (test)" in capsys.readouterr().out


def test_a_folder_without_checkpoints_ends_the_script(monkeypatch, checkpoints, tmp_path):
    for missing in ("somebody/small.safetensors", "models.py"):
        (checkpoints / missing).unlink()
        with pytest.raises(SystemExit, match=rf"Error: .* has no .*{missing[-9:]}"):
            run_example(
                monkeypatch,
                "zoo/real_teachers.py",
                "--checkpoints",
                str(checkpoints),
                "--output",
                str(tmp_path / "zoo"),
            )
    assert not (tmp_path / "zoo").exists()


def test_weights_of_another_network_end_the_script(monkeypatch, checkpoints, tmp_path):
    shutil.copyfile(EXAMPLES / "zoo" / "real_networks.py", tmp_path / "networks.py")
    shutil.copyfile(checkpoints / "models.py", tmp_path / "models.py")
    import_networks([tmp_path / "networks.py"])
    path = checkpoints / "somebody" / "small.safetensors"
    script = runpy.run_path(str(EXAMPLES / "zoo" / "real_teachers.py"))
    checkpoint = script["read_checkpoint"](path)
    assert checkpoint.name == "mnist-conv-small28"
    weights = load_file(path)
    del weights["fc2.bias"]
    save_file(weights, path)
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "fc2.bias"'):
        script["write_teacher"](checkpoint, tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


# ---- benchmark/pool.py


@pytest.mark.long
def test_the_pools_benchmark_keeps_the_budget(forks):
    command = [sys.executable, str(EXAMPLES / "benchmark"), "pool", "--teachers", "20", "--width", "8", "--times", "4"]
    done = forks.run(command)
    few, many = (line for line in done.stdout.splitlines() if " teachers: peak" in line)
    held = [int(line.partition(" held")[0].split()[-1]) for line in (few, many)]
    assert held == [5, 5], done.stdout  # a budget for 5 of the 20, and of the 16
    # so small a budget disappears in what a process takes anyway: either verdict is right, a traceback is not
    assert "above 16 teachers" in done.stdout, done.stderr


# ---- make_zoo.py


@pytest.fixture(scope="module")
def zoo():
    """The names in the example."""
    return runpy.run_path(str(EXAMPLES / "zoo" / "make_zoo.py"))


def plan(zoo, monkeypatch, *words: str):
    """The teachers that a command line would make."""
    monkeypatch.setattr(sys, "argv", ["make_zoo.py", "--output", "zoo", *words])
    return zoo["plan"](zoo["read_options"]())


@pytest.fixture
def three_sets(tmp_path) -> list[str]:
    """Folders of five classes, one picture each, of which two are named for writing."""
    for name in ("birds", "omniglot_small", "gtsrb"):
        for label in "abcde":
            path = tmp_path / name / "train" / label / "0.png"
            path.parent.mkdir(parents=True)
            Image.new("RGB", (8, 8), (ord(label), 90, 20)).save(path)
    return [str(tmp_path / name) for name in ("birds", "omniglot_small", "gtsrb")]


@pytest.mark.parametrize(
    ("preset", "sets", "architectures"),
    [
        ("ss", 1, ["conv4_32"] * 6),
        ("sh", 1, ["conv4_32", "resnet10_small", "resnet18_small"] * 2),
        ("mh", 2, ["conv4_32", "conv4_32", "resnet10_small", "resnet10_small", "resnet18_small", "resnet18_small"]),
    ],
)
def test_presets_are_the_literatures_scenarios(zoo, monkeypatch, three_sets, preset, sets, architectures):
    jobs = plan(zoo, monkeypatch, "--preset", preset, "--data", *three_sets[:sets], "--tasks", "6")
    assert [job.recipe.architecture for job in jobs] == architectures
    assert [job.source.data for job in jobs] == (three_sets[:sets] * 6)[:6]
    assert all(sorted(job.classes) == [0, 1, 2, 3, 4] for job in jobs)
    assert len({job.folder for job in jobs}) == 6
    assert [job.recipe.seed for job in jobs] == list(range(6))


def test_signs_and_letters_are_never_mirrored(zoo, monkeypatch, three_sets):
    words = ("--preset", "mh", "--data", *three_sets, "--tasks", "3")
    assert [job.recipe.flip for job in plan(zoo, monkeypatch, *words)] == [True, False, False]
    assert [job.recipe.flip for job in plan(zoo, monkeypatch, *words, "--no-flip")] == [False] * 3
    assert [job.recipe.flip for job in plan(zoo, monkeypatch, *words, "--flip")] == [True] * 3


@pytest.mark.parametrize(
    "name",
    [
        *("ylecun/mnist", "emnist", "org/kmnist-1k", "svhn", "dpdl-benchmark/svhn_cropped", "usps", "ocr-digits"),
        *("omniglot_small", "pittawat/letter_recognition", "tanganke/gtsrb", "traffic_signs", "street-sign"),
    ],
)
def test_names_of_writing(zoo, name):
    assert zoo["never_mirrored"](name)


@pytest.mark.parametrize("name", ["fashion_mnist", "zalando/Fashion-MNIST", "fashionmnist", "cifar_fs", "designs",
                                  "mini_imagenet", "org/food101", "letters-lab/birds"])  # fmt: skip
def test_names_of_other_pictures(zoo, name):
    assert not zoo["never_mirrored"](name)
