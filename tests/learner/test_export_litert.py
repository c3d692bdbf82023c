"""A classifier for LiteRT: its own runtime answers as the classifier does, about one picture of one size."""

from __future__ import annotations

import importlib.util
import json
import sys
import zipfile

import numpy as np
import pytest
import torch
from learners import LABELS, SIZE, make, pictures
from one_picture_files import KINDS, check_file, small_classifier

from hf_free.errors import LearnerError
from hf_free.learner.export import export_classifier

needs_litert = pytest.mark.skipif(
    importlib.util.find_spec("litert_torch") is None, reason="pip install -e '.[litert]'"
)


@needs_litert
@pytest.mark.long
@pytest.mark.parametrize(("kind", "size"), KINDS)
def test_litert_answers_as_the_classifier_about_one_picture(tmp_path, capfd, kind, size):
    from ai_edge_litert.interpreter import Interpreter

    classifier = small_classifier(**kind)
    done = export_classifier(classifier, tmp_path / "pets.tflite", input_size=size)
    assert capfd.readouterr().out == ""  # stdout is for what a program reads
    with zipfile.ZipFile(done.path) as archive:
        assert json.loads(archive.read("about.json"))["labels"] == classifier.classes
    runner = Interpreter(str(done.path)).get_signature_runner()

    def ask(images):
        found = runner(images=images.numpy())
        assert found["probabilities"].dtype == np.float32
        return torch.from_numpy(found["probabilities"]), torch.from_numpy(found["confidence"])

    check_file(done, classifier, size, ask)


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
