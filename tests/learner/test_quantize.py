"""Convolutions in eight bits: real probabilities, the same labels, a smaller file; or a refusal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from learners import LABELS, make, pictures

from hf_free.errors import LearnerError
from hf_free.learner import export
from hf_free.learner.export import export_classifier
from hf_free.learner.quantize import drawn_pictures


def test_drawn_pictures_are_bytes_that_repeat():
    drawn = drawn_pictures(3, 16, seed=1)
    assert (drawn.dtype, drawn.shape) == (torch.uint8, (3, 3, 16, 16))
    assert torch.equal(drawn, drawn_pictures(3, 16, seed=1))
    assert not torch.equal(drawn, drawn_pictures(3, 16, seed=2))
    assert drawn.float().std() > 20


def test_int8_is_of_onnx_only(tmp_path):
    classifier = make("conv4_32").adapt(pictures(), LABELS)
    with pytest.raises(LearnerError, match=r"int8 in a.pt2[\s\S]*ends in .onnx"):
        export_classifier(classifier, tmp_path / "a.pt2", int8=True)


def _clear(classifier):
    """Sharper, so that few drawn pictures lie between classes."""
    classifier.weight, classifier.bias = 30 * classifier.weight, 30 * classifier.bias
    return classifier


def test_int8_keeps_labels_and_real_probabilities_and_only_convolutions_change(tmp_path, monkeypatch):
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    classifier = _clear(make("conv4_64", head="ridge").adapt(pictures(), LABELS))
    done = export_classifier(classifier, tmp_path / "pets.onnx", int8=True)
    assert done.same_labels >= 0.9
    assert done.bytes < 0.5 * done.float_bytes
    assert done.milliseconds > 0 < done.float_milliseconds
    images = drawn_pictures(40, 16, seed=9)
    session = onnxruntime.InferenceSession(str(done.path), providers=["CPUExecutionProvider"])
    found, _ = session.run(None, {"images": images.numpy()})
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    assert (found > 0).all()
    assert (found.argmax(1) == classifier.predict_proba(images).argmax(1).numpy()).mean() >= 0.9
    model = onnx.load(done.path)
    bytes_ = {one.name for one in model.graph.initializer if one.data_type == onnx.TensorProto.INT8 and one.dims}
    weights = {node.output[0] for node in model.graph.node if bytes_ & {*node.input[:1]}}
    assert weights
    assert {node.op_type for node in model.graph.node if weights & {*node.input}} == {"Conv"}
    assert not [n for n in model.graph.node if n.op_type in ("Softmax", "MatMul", "Gemm") and weights & {*n.input}]
    assert str(tmp_path).encode() not in done.path.read_bytes()
    monkeypatch.setattr(export, "SAME_LABELS", 1.01)
    with pytest.raises(LearnerError, match="keep their label"):
        export_classifier(classifier, tmp_path / "other.onnx", int8=True)
    assert not (tmp_path / "other.onnx").exists()
