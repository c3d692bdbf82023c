"""A classifier for ExecuTorch: its own runtime answers as the classifier does, about one picture of one size."""

from __future__ import annotations

import importlib.util
import json
import sys

import pytest
import torch
from learners import LABELS, make, pictures
from one_picture_files import KINDS, check_file, small_classifier

from hf_free.errors import LearnerError
from hf_free.learner.export import export_classifier
from hf_free.learner.export_executorch import write_executorch

needs_executorch = pytest.mark.skipif(
    importlib.util.find_spec("executorch") is None, reason="pip install -e '.[executorch]'"
)


@needs_executorch
@pytest.mark.long
@pytest.mark.parametrize(("kind", "size"), KINDS)
def test_executorch_answers_as_the_classifier_about_one_picture(tmp_path, capfd, kind, size):
    from executorch.runtime import Runtime

    classifier = small_classifier(**kind)
    done = export_classifier(classifier, tmp_path / "pets.pte", input_size=size)
    assert capfd.readouterr().out == ""  # stdout is for what a program reads
    program = Runtime.get().load_program(done.path)
    (inside,) = program.load_method("about").execute([])
    assert json.loads(inside)["labels"] == classifier.classes
    method = program.load_method("forward")
    check_file(done, classifier, size, lambda images: tuple(method.execute([images])))


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
