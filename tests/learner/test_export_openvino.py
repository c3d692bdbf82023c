"""A classifier for OpenVINO: its own runtime answers as the classifier does, and nobody is told of it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest
import torch
from learners import LABELS, SIZE, make, pictures

from hf_free.errors import LearnerError
from hf_free.learner import export_openvino
from hf_free.learner.export import export_classifier
from hf_free.learner.rejection import Rejection

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="pip install -e '.[openvino]'"
)
SHAPES = [(2, 3, 31, 9), (4, 3, 8, 50), (2, 3, SIZE, SIZE), (3, 3, 1, 1), (2, 3, 333, 222)]


@needs_openvino
@pytest.mark.long
@pytest.mark.parametrize(
    "kind", [{}, {"views": ("flip", "up_left", "down_right")}, {"batchnorm": "transductive"}, {"channels": 1}]
)
def test_openvino_answers_as_the_classifier_about_pictures_of_any_size(tmp_path, kind):
    import openvino

    classifier = make("conv4_32", model_args={"width": 8}, head="ridge", **kind).adapt(pictures(), LABELS)
    classifier.rejection = Rejection(1.5)
    done = export_classifier(classifier, tmp_path / "pets.xml")
    assert done.difference < 5e-3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pets.bin", "pets.xml", "pets.xml.json"]
    assert done.bytes == sum((tmp_path / f"pets.{suffix}").stat().st_size for suffix in ("bin", "xml"))
    model = openvino.Core().read_model(done.path)
    assert json.loads(model.get_rt_info(["hf_free", "labels"]).astype(str)) == classifier.classes
    compiled = openvino.Core().compile_model(model, "CPU", export_openvino.SETTINGS)
    for shape in SHAPES:
        images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
        found = torch.from_numpy(compiled({"images": images.numpy()})["probabilities"])
        torch.testing.assert_close(found, classifier.predict_proba(images), rtol=0, atol=2e-3)


@needs_openvino
@pytest.mark.long
def test_openvino_is_imported_without_its_telemetry():
    code = (
        "from hf_free.learner.export_openvino import without_telemetry\n"
        "with without_telemetry():\n    import openvino.tools.ovc\n"
        "import sys\nfrom openvino.tools.ovc import telemetry_utils\n"
        "print(telemetry_utils.tm.__name__, 'openvino_telemetry' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["openvino.tools.ovc.telemetry_stub", "False"]


def test_without_openvino_the_way_to_install_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    classifier = make("conv4_32", model_args={"width": 8}).adapt(pictures(), LABELS)
    with pytest.raises(LearnerError, match=r"hf-free\[openvino\]"):
        export_classifier(classifier, tmp_path / "pets.xml")
    assert not list(tmp_path.iterdir())
