"""A classifier for LiteRT: its own runtime answers as the classifier does, about one picture of one size."""

from __future__ import annotations

import importlib.util
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from learners import LABELS, SIZE, make, pictures

import hf_free
from hf_free.errors import LearnerError
from hf_free.learner.export import export_classifier
from hf_free.learner.rejection import Rejection

needs_litert = pytest.mark.skipif(
    importlib.util.find_spec("litert_torch") is None, reason="pip install -e '.[litert]'"
)
KINDS = [
    ({}, None),
    ({"views": ("identity", "flip")}, (48, 31)),
    ({"channels": 1}, None),
    ({}, (5, 3)),
]


@needs_litert
@pytest.mark.long
@pytest.mark.parametrize(("kind", "size"), KINDS)
def test_litert_answers_as_the_classifier_about_one_picture(tmp_path, capfd, kind, size):
    from ai_edge_litert.interpreter import Interpreter

    classifier = make("conv4_32", model_args={"width": 8}, head="ridge", **kind).adapt(pictures(), LABELS)
    classifier.rejection = Rejection(1.5)
    done = export_classifier(classifier, tmp_path / "pets.tflite", input_size=size)
    assert capfd.readouterr().out == ""  # stdout is for what a program reads
    height, width = size or (SIZE, SIZE)
    assert (done.input_size, done.resizes) == ((height, width), size is not None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pets.tflite", "pets.tflite.json"]
    assert done.bytes == done.path.stat().st_size
    about = json.loads(done.labels.read_text())
    assert about["labels"] == classifier.classes
    assert about["input_size"] == [height, width]
    assert ("the file resizes" in about["input"]) == (size is not None)
    with zipfile.ZipFile(done.path) as archive:
        assert json.loads(archive.read("about.json"))["labels"] == classifier.classes
    ask = Interpreter(str(done.path)).get_signature_runner()
    images = torch.randint(
        0, 256, (4, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(3)
    )
    answers = classifier.answers(classifier.embed(images))
    for place, expected in enumerate(classifier.predict_proba(images)):
        found = ask(images=images[place : place + 1].numpy())
        assert found["probabilities"].dtype == np.float32
        # without a resize only sums are in another order; with one a value may be rounded to the other gray level
        tolerance = 1e-5 if size is None else 2e-3
        torch.testing.assert_close(torch.from_numpy(found["probabilities"])[0], expected, rtol=0, atol=tolerance)
        torch.testing.assert_close(float(found["confidence"][0]), float(answers.confidence[place]), rtol=0, atol=2e-2)
    content = done.path.read_bytes()
    for here in (Path(hf_free.__file__).parents[1], tmp_path, sys.prefix, Path.home()):
        assert str(here).encode() not in content


@needs_litert
@pytest.mark.long
@pytest.mark.parametrize("backbone", ["conv4_32", "test_resnet"])
def test_pictures_of_another_size_or_number_are_refused(tmp_path, backbone):
    """The interpreter fits the whole graph to what it is given, and a network that pools answers about any size."""
    from ai_edge_litert.interpreter import Interpreter

    classifier = make(backbone, head="ridge").adapt(pictures(), LABELS)
    path = export_classifier(classifier, tmp_path / "pets.tflite").path
    for shape in [(1, 3, SIZE + 4, SIZE), (1, 3, SIZE, SIZE + 4), (1, 3, 2 * SIZE, 2 * SIZE), (2, 3, SIZE, SIZE)]:
        with pytest.raises(RuntimeError):
            Interpreter(str(path)).get_signature_runner()(images=np.zeros(shape, np.uint8))
    Interpreter(str(path)).get_signature_runner()(images=np.zeros((1, 3, SIZE, SIZE), np.uint8))


def test_without_litert_the_way_to_install_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "litert_torch", None)
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    classifier = make("conv4_32", model_args={"width": 8}).adapt(pictures(), LABELS)
    with pytest.raises(LearnerError, match=r"hf-free\[litert\]"):
        export_classifier(classifier, tmp_path / "pets.tflite")
    assert not list(tmp_path.iterdir())
