"""A classifier for ExecuTorch: its own runtime answers as the classifier does, about one picture of one size."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from learners import LABELS, SIZE, make, pictures

import hf_free
from hf_free.errors import LearnerError
from hf_free.learner.export import export_classifier
from hf_free.learner.export_executorch import write_executorch
from hf_free.learner.rejection import Rejection

needs_executorch = pytest.mark.skipif(
    importlib.util.find_spec("executorch") is None, reason="pip install -e '.[executorch]'"
)
KINDS = [
    ({}, None),
    ({"views": ("identity", "flip")}, (48, 31)),
    ({"channels": 1}, None),
    ({}, (5, 3)),
]


@needs_executorch
@pytest.mark.long
@pytest.mark.parametrize(("kind", "size"), KINDS)
def test_executorch_answers_as_the_classifier_about_one_picture(tmp_path, capfd, kind, size):
    from executorch.runtime import Runtime

    classifier = make("conv4_32", model_args={"width": 8}, head="ridge", **kind).adapt(pictures(), LABELS)
    classifier.rejection = Rejection(1.5)
    done = export_classifier(classifier, tmp_path / "pets.pte", input_size=size)
    assert capfd.readouterr().out == ""  # stdout is for what a program reads
    height, width = size or (SIZE, SIZE)
    assert (done.input_size, done.resizes) == ((height, width), size is not None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pets.pte", "pets.pte.json"]
    assert done.bytes == done.path.stat().st_size
    about = json.loads(done.labels.read_text())
    assert about["labels"] == classifier.classes
    assert about["input_size"] == [height, width]
    program = Runtime.get().load_program(done.path)
    (inside,) = program.load_method("about").execute([])
    assert json.loads(inside)["labels"] == classifier.classes
    method = program.load_method("forward")
    images = torch.randint(
        0, 256, (4, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(3)
    )
    answers = classifier.answers(classifier.embed(images))
    for place, expected in enumerate(classifier.predict_proba(images)):
        found, confidence = method.execute([images[place : place + 1]])
        # without a resize only sums are in another order; with one a value may be rounded to the other gray level
        tolerance = 1e-5 if size is None else 2e-3
        torch.testing.assert_close(found[0], expected, rtol=0, atol=tolerance)
        torch.testing.assert_close(float(confidence[0]), float(answers.confidence[place]), rtol=0, atol=2e-2)
    content = done.path.read_bytes()
    for here in (Path(hf_free.__file__).parents[1], tmp_path, sys.prefix, Path.home()):
        assert str(here).encode() not in content


@needs_executorch
@pytest.mark.long
def test_pictures_of_any_layout_are_read_in_the_right_order(tmp_path):
    """ExecuTorch itself takes the layout channels_last and reads it as contiguous."""

    class Corner(torch.nn.Module):
        def forward(self, images):
            return images[:, :, 0, 1].float(), images[:, 0, 0, 0].float()

    run = write_executorch(Corner().eval(), tmp_path / "corner.pte", {}, (4, 4))
    images = torch.arange(48, dtype=torch.uint8).view(1, 3, 4, 4)
    assert run(images.contiguous(memory_format=torch.channels_last))[0].tolist() == [[1, 17, 33]]


@needs_executorch
@pytest.mark.long
def test_weights_in_the_layout_channels_last_are_exported(tmp_path):
    classifier = make("conv4_32", model_args={"width": 8}).adapt(pictures(), LABELS)
    classifier.embedder.to(memory_format=torch.channels_last)
    assert export_classifier(classifier, tmp_path / "pets.pte").difference < 1e-5


def test_without_executorch_the_way_to_install_it_is_said(tmp_path, monkeypatch):
    for name in ("executorch", "executorch.exir", "executorch.backends"):
        monkeypatch.setitem(sys.modules, name, None)
    classifier = make("conv4_32", model_args={"width": 8}).adapt(pictures(), LABELS)
    with pytest.raises(LearnerError, match=r"hf-free\[executorch\]"):
        export_classifier(classifier, tmp_path / "pets.pte")
    assert not list(tmp_path.iterdir())
