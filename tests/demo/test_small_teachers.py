"""Teachers for experiments: trained in seconds, written as repositories that the loader takes, resumable zoos."""

from __future__ import annotations

import csv
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from hf_free.demo.small_teachers import ClassifierRecipe, small_image_args, train_classifier
from hf_free.errors import ConfigError
from hf_free.teachers.loader import load_teacher
from hf_free.teachers.reference import TeacherReference

MAKE_ZOO = Path(__file__).parents[2] / "examples" / "zoo" / "make_zoo.py"
COLORS = ((220, 30, 30), (30, 200, 40), (20, 40, 220), (230, 220, 30))
TINY = {"width": 8}
QUICK = ClassifierRecipe(architecture="conv4_32", model_args=TINY, epochs=6, batch_size=16, lr=1e-2, shift=2)


def colored_pictures(count: int, *, classes: int = 3, size: int = 32, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Noisy pictures whose color is their class: uint8 (N, 3, size, size), labels (N,)."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    noise = torch.randint(-20, 20, (count, 3, size, size), generator=generator)
    images = torch.tensor(COLORS)[labels][:, :, None, None] + noise
    return images.clamp(0, 255).to(torch.uint8), labels


def test_a_classifier_learns_and_its_accuracy_is_that_of_the_held_out_pictures():
    held_out = colored_pictures(30, seed=1)
    wrong = held_out[1].clone()
    wrong[:10] = (wrong[:10] + 1) % 3  # a third of the held-out labels is false, so 2/3 is what can be reached
    trained = train_classifier(QUICK, *colored_pictures(96), held_out=(held_out[0], wrong))
    assert trained.accuracy == pytest.approx(2 / 3)
    assert not trained.network.training
    expected = colored_pictures(96)[0].float().div(255).mean((0, 2, 3))
    assert trained.mean == pytest.approx(expected.tolist(), abs=1e-3)


def test_equal_seeds_make_equal_networks_and_the_callers_random_numbers_stay():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, second = (train_classifier(QUICK, *colored_pictures(48)).network.state_dict() for _ in range(2))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    other = ClassifierRecipe(**{**vars(QUICK), "seed": 1})
    third = train_classifier(other, *colored_pictures(48)).network.state_dict()
    assert not torch.equal(first["head.weight"], third["head.weight"])


def test_without_mirroring_no_picture_is_mirrored():
    """Two classes that mirror each other can be told apart only if training never mirrors."""
    images, labels = colored_pictures(64, classes=2)
    images[:] = 40
    images[labels == 0, :, :, :10] = 220
    images[labels == 1, :, :, 22:] = 220
    plain = ClassifierRecipe(**{**vars(QUICK), "flip": False})
    told_apart, confused = (train_classifier(recipe, images, labels) for recipe in (plain, QUICK))

    def loss(trained):
        normalized = (images.float() / 255 - torch.tensor(trained.mean).view(1, -1, 1, 1)) / trained.std[0]
        with torch.no_grad():
            return torch.nn.functional.cross_entropy(trained.network(normalized), labels).item()

    assert loss(told_apart) < 0.3
    assert loss(confused) > 0.5  # a coin has ln 2 = 0.69


@pytest.mark.parametrize("architecture", ["conv4_32", "test_vit", "test_convnext", "test_resnet", "test_efficientnet"])
def test_saved_teachers_load_with_their_labels_and_answers(tmp_path, architecture):
    recipe = ClassifierRecipe(architecture=architecture, model_args=small_image_args(architecture, 32), epochs=1)
    trained = train_classifier(recipe, *colored_pictures(12))
    trained.save(tmp_path, label_names=["red", "green", "blue"])
    teacher = load_teacher(TeacherReference.parse(str(tmp_path)))
    assert teacher.record.label_names == ("red", "green", "blue")
    assert teacher.record.input_size == (3, 32, 32)
    pictures = colored_pictures(4)[0].float() / 255
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (trained.mean, trained.std))
    with torch.no_grad():
        expected = trained.network((pictures - mean) / std)
    torch.testing.assert_close(teacher.logits(pictures), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("architecture", "cells", "channels"), [("test_vit", 64, 64), ("test_convnext", 256, 24)])
def test_small_pictures_are_seen_finely(architecture, cells, channels):
    recipe = ClassifierRecipe(architecture=architecture, model_args=small_image_args(architecture, 32), epochs=1)
    network = train_classifier(recipe, *colored_pictures(6)).network
    stem = network.patch_embed if architecture == "test_vit" else network.stem
    assert stem(torch.zeros(1, 3, 32, 32)).numel() == cells * channels


def test_what_cannot_be_trained_is_refused():
    images, labels = colored_pictures(12)
    with pytest.raises(ConfigError, match="no_such_model"):
        train_classifier(ClassifierRecipe(architecture="no_such_model"), images, labels)
    with pytest.raises(ConfigError, match="no_such_model"):
        small_image_args("no_such_model", 32)
    with pytest.raises(ConfigError, match="wdith"):
        train_classifier(ClassifierRecipe(architecture="conv4_32", model_args={"wdith": 8}), images, labels)
    with pytest.raises(ConfigError, match="2 of 3 classes"):
        train_classifier(QUICK, images[labels != 1], labels[labels != 1])
    with pytest.raises(ConfigError, match="epochs=0"):
        ClassifierRecipe(architecture="conv4_32", epochs=0)


INTERRUPTED = """
import signal
import time
from pathlib import Path

from hf_free.runtime.processes import in_parallel

signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite that runs in the background has it ignored

def wait(number):
    Path(f"{number}.started").touch()
    time.sleep(600)


if __name__ == "__main__":
    try:
        list(in_parallel(wait, [1, 2, 3], workers=2))
    except KeyboardInterrupt:
        print("stopped")
"""


def test_ctrl_c_ends_all_processes_at_once_and_without_tracebacks(tmp_path):
    (tmp_path / "script.py").write_text(INTERRUPTED)
    run = subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    started = [tmp_path / "1.started", tmp_path / "2.started"]
    deadline = time.monotonic() + 600
    while not all(path.exists() for path in started) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does: every process gets it
    said, complaints = run.communicate(timeout=300)
    assert said == "stopped\n", complaints
    assert "Traceback" not in complaints
    assert not (tmp_path / "3.started").exists()


# ---- examples/zoo/make_zoo.py


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """`train/CLASS/*.png` of four colors."""
    root = tmp_path_factory.mktemp("colors")
    images, labels = colored_pictures(40, classes=4, size=20)
    for index, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        path = root / "train" / "ABCD"[label] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return root


def zoo_command(pictures: Path, output: Path, *more: str) -> list[str]:
    quick = ["--n-way", "3", "--epochs", "1", "--batch-size", "8", "--workers", "1"]
    return [str(MAKE_ZOO), "--data", str(pictures), "--output", str(output), *quick, *more]


def make_zoo(monkeypatch, *command: str) -> None:
    """Run the example's `main` in this process."""
    monkeypatch.setattr(sys, "argv", list(command))
    runpy.run_path(command[0], run_name="__main__")


def test_a_zoo_is_made_resumed_and_extended(monkeypatch, capsys, pictures, tmp_path):
    command = zoo_command(pictures, tmp_path / "zoo", "--architectures", "conv4_32", "test_resnet")
    make_zoo(monkeypatch, *command, "--tasks", "2", "--data-license", "cc0-1.0")
    folders = sorted(path.parent for path in (tmp_path / "zoo").glob("*/model.safetensors"))
    assert [folder.name.split("-", 1)[1] for folder in folders] == ["conv4-32-000", "test-resnet-001"]
    before = {folder: (folder / "model.safetensors").stat().st_mtime_ns for folder in folders}

    make_zoo(monkeypatch, *command, "--tasks", "3", "--data-license", "cc0-1.0")
    assert "3 teachers" in capsys.readouterr().out
    assert {folder: (folder / "model.safetensors").stat().st_mtime_ns for folder in folders} == before
    with (tmp_path / "zoo" / "index.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["architecture"] for row in rows] == ["conv4_32", "test_resnet", "conv4_32"]

    for row in rows:
        folder = tmp_path / "zoo" / row["folder"]
        teacher, made = load_teacher(TeacherReference.parse(str(folder))), json.loads(read(folder / "training.json"))
        assert list(teacher.record.label_names) == made["label_names"] == row["classes"].split(";")
        assert made["held_out"] == 3 * 2  # a fifth of ten pictures a class
        assert "License of the data: cc0-1.0" in read(folder / "README.md")
        assert str(tmp_path) not in read(folder / "README.md") + read(folder / "training.json")

    with pytest.raises(SystemExit, match="made with other settings"):
        make_zoo(monkeypatch, *command, "--tasks", "3", "--lr", "0.5")


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_a_teacher_does_not_depend_on_how_many_are_made(monkeypatch, pictures, tmp_path):
    for tasks in ("1", "2"):
        make_zoo(monkeypatch, *zoo_command(pictures, tmp_path / tasks, "--tasks", tasks))
    (one,), (again, _) = (sorted((tmp_path / tasks).glob("*/model.safetensors")) for tasks in ("1", "2"))
    first, second = load_file(one), load_file(again)
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_zoos_that_cannot_be_are_refused(monkeypatch, pictures, tmp_path, capsys):
    with pytest.raises(SystemExit, match="4 classes in split train"):
        make_zoo(monkeypatch, *zoo_command(pictures, tmp_path / "zoo", "--n-way", "5"))
    with pytest.raises(SystemExit):
        make_zoo(monkeypatch, *zoo_command(pictures, tmp_path / "zoo", "--data", str(pictures), str(pictures)))
    assert "mh takes several" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        make_zoo(monkeypatch, *zoo_command(pictures, tmp_path / "zoo", "--preset", "mh"))
    assert "mh takes several data sets, 1 was given" in capsys.readouterr().err
    assert not (tmp_path / "zoo").exists()


@pytest.mark.slow
def test_a_zoo_is_pushed_with_the_real_client(hub, tokens, run_client, pictures, tmp_path):
    command = [sys.executable, *zoo_command(pictures, tmp_path / "zoo", "--tasks", "1", "--push", "lab")]
    run_client(command, token=tokens["alice"])
    (folder,) = (path.parent for path in (tmp_path / "zoo").glob("*/model.safetensors"))
    pushed = hub.read_repo(f"lab/{folder.name}")
    assert pushed["model.safetensors"] == (folder / "model.safetensors").read_bytes()


def test_the_examples_help_names_the_presets(forks):
    shown = forks.run([sys.executable, str(MAKE_ZOO), "--help"])
    assert shown.returncode == 0, shown.stderr
    assert "{ss,sh,mh}" in shown.stdout
