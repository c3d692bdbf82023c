"""A classifier out of Python: the file answers as the classifier does, about pictures of any size."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from learners import LABELS, SIZE, make, pictures
from pico import pico_folder
from torch import nn

import hf_free
from hf_free.errors import LearnerError, StorageError
from hf_free.learner import export
from hf_free.learner.batchnorm import batch_statistics
from hf_free.learner.export import BatchStatistics, PixelsToProbabilities, export_classifier
from hf_free.learner.pooled_backbone import PooledBackbone
from hf_free.learner.rejection import Rejection
from hf_free.training.pool import pool

HERE = str(Path(hf_free.__file__).parents[1]).encode()
SHAPES = [(1, 3, 31, 9), (4, 3, 8, 50), (2, 3, SIZE, SIZE), (3, 3, 1, 1), (1, 3, 333, 222)]


def adapted(**kind):
    classifier = make("conv4_32", model_args={"width": 8}, head="ridge", **kind).adapt(pictures(), LABELS)
    classifier.rejection = Rejection(1.5)
    return classifier


def asked(shape, seed=3):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "kind", [{}, {"views": ("flip", "up_left", "down_right")}, {"batchnorm": "transductive"}, {"channels": 1}]
)
def test_the_module_is_the_classifier(kind):
    classifier = adapted(**kind)
    module = PixelsToProbabilities(classifier).eval()
    for shape in [(4, 3, 31, 9), (2, 3, SIZE, SIZE)]:
        with torch.no_grad():
            probabilities, confidence = module(asked(shape))
        torch.testing.assert_close(probabilities, classifier.predict_proba(asked(shape)), rtol=0, atol=2e-3)
        answers = classifier.answers(classifier.embed(asked(shape)))
        torch.testing.assert_close(confidence, answers.confidence, rtol=0, atol=2e-2)


@pytest.mark.parametrize("shape", [(6, 5, 4, 3), (6, 5)])
def test_statistics_of_the_batch_are_those_of_batchnorm(shape):
    torch.manual_seed(0)
    layer = (nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d)(5)
    nn.init.uniform_(layer.weight)
    nn.init.uniform_(layer.bias)
    images = torch.randn(shape)
    with batch_statistics(layer):
        expected = layer(images)
    torch.testing.assert_close(BatchStatistics(layer)(images), expected)


def test_a_program_of_torch_export_answers_and_tells_nothing_of_the_machine(tmp_path):
    classifier = adapted()
    done = export_classifier(classifier, tmp_path / "pets.PT2")
    assert done.difference < 5e-3
    loaded = torch.export.load(done.path.rename(tmp_path / "pets.pt2")).module()
    for shape in SHAPES:
        found, _ = loaded(asked(shape))
        torch.testing.assert_close(found, classifier.predict_proba(asked(shape)), rtol=0, atol=2e-3)
    about = json.loads((tmp_path / "pets.PT2.json").read_text())
    assert about["labels"] == classifier.classes
    assert about["rejection"]["threshold"] == 1.5
    assert HERE not in (tmp_path / "pets.pt2").read_bytes()


def test_a_program_of_a_pooled_learner_takes_any_number_of_pictures(tmp_path):
    teachers = [str(pico_folder(tmp_path / str(seed), size=SIZE, seed=seed, num_classes=3)) for seed in range(2)]
    learner = pool(teachers, rounds=0)
    classifier = learner.adapt(asked((6, 3, SIZE, SIZE)), [0, 0, 1, 1, 2, 2])
    export_classifier(classifier, tmp_path / "a.pt2")
    program = torch.export.load(tmp_path / "a.pt2").module()
    for count in (1, 3, 5):
        pictures = asked((count, 3, SIZE, SIZE))
        found, _ = program(pictures)
        torch.testing.assert_close(found, classifier.predict_proba(pictures), rtol=0, atol=2e-3)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_temporary_folder_without_room_is_one_message(tmp_path, monkeypatch, number):
    """Given a path, torch aborts the process where the disk is full."""

    class Program:
        graph_module = nn.Module()

    def full(path, data):
        raise OSError(number, "full", str(path))

    monkeypatch.setattr("hf_free.learner.export._program", lambda module: Program())
    monkeypatch.setattr(torch.export, "save", lambda program, file, **_: file.write(bytes(100)))
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match=r"cannot write pets\.pt2 in .*\(100 B are needed") as refused:
        export_classifier(adapted(), tmp_path / "pets.pt2")
    assert "TMPDIR" in refused.value.action


def test_onnx_answers_in_onnxruntime_and_carries_its_labels(tmp_path):
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    classifier = adapted(batchnorm="transductive")
    done = export_classifier(classifier, tmp_path / "pets.onnx")
    session = onnxruntime.InferenceSession(str(done.path))
    for shape in [shape for shape in SHAPES if shape[0] > 1]:
        images = asked(shape)
        found, confidence = session.run(None, {"images": images.numpy()})
        np.testing.assert_allclose(found, classifier.predict_proba(images).numpy(), atol=2e-3)
        assert confidence.shape == (shape[0],)
    properties = session.get_modelmeta().custom_metadata_map
    assert json.loads(properties["labels"]) == classifier.classes
    assert json.loads(properties["rejection"])["threshold"] == 1.5
    model = onnx.load(done.path)
    assert (model.ir_version, model.opset_import[0].version) == (10, 20)
    assert HERE not in done.path.read_bytes()
    assert not any(node.metadata_props for node in model.graph.node)
    assert [dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [
        "batch",
        3,
        "height",
        "width",
    ]


def test_a_file_that_answers_otherwise_is_not_kept(tmp_path, monkeypatch):
    classifier = adapted()
    right = export.PixelsToProbabilities.forward
    monkeypatch.setattr(
        export.PixelsToProbabilities,
        "forward",
        lambda self, images: right(self, images.flip(2)),  # upside down
    )
    with pytest.raises(LearnerError, match="differs from the classifier by"):
        export_classifier(classifier, tmp_path / "pets.pt2")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported_is_refused(tmp_path):
    with pytest.raises(LearnerError, match=r"ends in '.bin'\n[\s\S]*.onnx or .pt2 or .xml or .tflite or .pte"):
        export_classifier(adapted(), tmp_path / "a.bin")
    with pytest.raises(LearnerError, match=r"a.so ends in[\s\S]*memory layout wrongly"):
        export_classifier(adapted(), tmp_path / "a.so")
    with pytest.raises(LearnerError, match=r"an input size for a.pt2, which takes pictures of any size"):
        export_classifier(adapted(), tmp_path / "a.pt2", input_size=(48, 31))
    with pytest.raises(LearnerError, match=r"pictures of 2000x501"):
        export_classifier(adapted(), tmp_path / "a.tflite", input_size=(2000, 501))
    for name in ("a.xml", "a.tflite", "a.pte"):
        with pytest.raises(LearnerError, match=f"int8 in {name}"):
            export_classifier(adapted(), tmp_path / name, int8=True)
    classifier = adapted()
    classifier.transductive = "transport"
    with pytest.raises(LearnerError, match="transductive head transport"):
        export_classifier(classifier, tmp_path / "a.pt2")


@pytest.mark.parametrize("name", ["a.tflite", "a.pte"])
def test_one_picture_has_no_statistics_of_a_batch(tmp_path, name):
    with pytest.raises(LearnerError, match=f"transductive BatchNorm in {name}"):
        export_classifier(adapted(batchnorm="transductive"), tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.tflite", "a.pte"])
def test_a_pool_of_teachers_is_not_for_phones(tmp_path, name):
    classifier = adapted()
    classifier.embedder.backbone = PooledBackbone([], (), ())
    with pytest.raises(LearnerError, match=rf"a pooled learner in {name}[\s\S]*hf-free distill"):
        export_classifier(classifier, tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("given", [(SIZE, SIZE), (48, 31), (5, 3)])
@pytest.mark.parametrize("kind", [{}, {"channels": 1}])
def test_the_module_for_one_size_is_the_classifier(kind, given):
    classifier = adapted(**kind)
    with torch.no_grad():
        probabilities, _ = PixelsToProbabilities(classifier, given).eval()(asked((3, 3, *given)))
    torch.testing.assert_close(probabilities, classifier.predict_proba(asked((3, 3, *given))), rtol=0, atol=2e-3)


def test_a_file_for_one_picture_is_compared_on_pictures_of_its_size(tmp_path, monkeypatch):
    """Kept where it answers as the classifier, and not where it answers otherwise about one picture only."""
    classifier, asked_for = adapted(), []

    def writer(wrong):
        def write(module, path, about, given):
            path.write_bytes(b"file")

            def run(images):
                asked_for.append(tuple(images.shape))
                with torch.no_grad():
                    return module(255 - images if wrong and not images.any() else images)

            return run

        return write

    monkeypatch.setitem(export.ONE_PICTURE, ".tflite", writer(wrong=False))
    done = export_classifier(classifier, tmp_path / "a.tflite", input_size=(48, 31))
    assert set(asked_for) == {(1, 3, 48, 31)}
    assert (done.input_size, done.resizes, done.path.read_bytes()) == ((48, 31), True, b"file")
    assert not export_classifier(classifier, tmp_path / "own.tflite").resizes
    monkeypatch.setitem(export.ONE_PICTURE, ".tflite", writer(wrong=True))
    with pytest.raises(LearnerError, match="differs from the classifier by"):
        export_classifier(classifier, tmp_path / "b.tflite", input_size=(48, 31))
    assert not (tmp_path / "b.tflite").exists()


@pytest.mark.parametrize("given", ["a learner", None, 3])
def test_what_is_no_classifier_is_refused(tmp_path, given):
    with pytest.raises(LearnerError, match=r"learner\.adapt"):
        export_classifier(given, tmp_path / "pets.pt2")


def test_a_path_may_be_a_text_and_nothing_else(tmp_path):
    with pytest.raises(LearnerError, match="path=None"):
        export_classifier(adapted(), None)
    with pytest.raises(LearnerError, match=r"ends in '\.txt'"):
        export_classifier(adapted(), str(tmp_path / "pets.txt"))
