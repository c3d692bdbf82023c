"""`inspect --measure`: a short inversion with a fixed seed, and the word for it."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from pico import pico_folder, pico_teacher

from hf_free.cli.main import main
from hf_free.config.sections import FiveConfig
from hf_free.evaluation.invertibility import Invertibility, measure_invertibility
from hf_free.inversion.five import Five
from hf_free.inversion.losses import pairwise_distance
from hf_free.runtime.device import Precision

SMALL = {"steps": 2, "images_per_class": 3}
FOUND = Invertibility(5, 100, 10, loss=0.5, chance=math.log(10), recognized=0.9, diversity=0.2, statistics=0.1)


@pytest.mark.parametrize(("size", "made"), [(16, 16), (96, 64)])
def test_measurement_is_that_of_the_pictures(size, made):
    teacher = pico_teacher("conv4", num_classes=4, size=size)
    found = measure_invertibility(teacher, seed=3, **SMALL)

    torch.manual_seed(3)
    precision = Precision.choose("auto", teacher.device)
    five = Five(FiveConfig(images_per_class=3, max_classes=10), image_size=made, precision=precision)
    pictures, wanted, _ = five.adapt(teacher, steps=2)
    stored = (pictures * 255).round() / 255
    output = teacher(stored)
    own = output.logits.log_softmax(1)[torch.arange(12), wanted.labels]
    assert found.loss == pytest.approx(-own.mean().item(), rel=1e-3)
    assert found.recognized == (output.logits.argmax(1) == wanted.labels).float().mean().item()
    assert found.diversity == pytest.approx(pairwise_distance(output.features, wanted.labels).item(), rel=1e-3)
    assert (found.images, found.classes, found.steps) == (12, 4, 2)
    assert found.chance == math.log(4)
    assert found.statistics > 0


def test_measurement_leaves_random_numbers_alone_and_repeats():
    teacher = pico_teacher("vit", num_classes=12)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = measure_invertibility(teacher, **SMALL)
    assert torch.equal(torch.rand(3), expected)
    assert measure_invertibility(teacher, **SMALL) == first
    assert measure_invertibility(teacher, seed=1, **SMALL) != first
    assert first.classes == 10, "a large head is asked about some of its classes"
    assert first.statistics is None, "no BatchNorm"


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "good"),
        ({"recognized": 0.79}, "fair"),
        ({"recognized": 0.29}, "poor"),
        ({"loss": math.nan}, "poor"),
        ({"statistics": None}, "fair"),
        ({"loss": math.log(10) + 0.01}, "fair"),
        ({"statistics": 1.01}, "fair"),
        ({"statistics": 10.1}, "poor"),
        ({"statistics": math.nan}, "poor"),
        ({"statistics": math.inf}, "poor"),
        ({"loss": 8.11, "recognized": 0.96, "statistics": 25_000.0}, "poor"),
        ({"loss": 2.3, "statistics": None}, "fair"),
    ],
)
def test_verdicts(changes, verdict):
    found = replace(FOUND, **changes)
    assert found.verdict == verdict
    values = found.to_dict()
    json.dumps(values, allow_nan=False)
    assert values["verdict"] == verdict


@pytest.mark.parametrize("layers", [slice(-1, None), slice(None)])
def test_a_teacher_without_its_variances_is_poor(layers):
    teacher = pico_teacher("conv4", num_classes=3, size=16)
    for layer in teacher.batchnorm_layers()[layers]:
        layer.running_var.zero_()
    assert measure_invertibility(teacher, **SMALL).verdict == "poor"


def test_inspect_measures_on_request(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    folder = str(pico_folder(tmp_path / "t", "conv4", size=16, num_classes=2))
    assert main(["inspect", folder, "--json"]) == 0
    assert "inversion" not in json.loads(capsys.readouterr().out)[0]
    assert main(["inspect", folder, str(tmp_path / "absent"), "--measure"]) == 0
    out = capsys.readouterr().out
    found = measure_invertibility(pico_teacher("conv4", size=16, num_classes=2))
    assert found.verdict in out
    assert f"{found.recognized:.0%}" in out
    assert f"({math.log(2):.2f})" in out
