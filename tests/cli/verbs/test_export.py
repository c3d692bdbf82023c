"""`hf-free export`: a file that was compared before it was kept."""

from __future__ import annotations

import json

import pytest
import torch

from hf_free.cli.main import main
from hf_free.learner.classifier import FewShotClassifier
from hf_free.learner.export import ONE_PICTURE


def test_a_kept_classifier_becomes_a_program_of_the_same_answers(capsys, tmp_path, learner_run, pictures):
    kept, output = tmp_path / "kept", tmp_path / "colors.pt2"
    assert main(["adapt", str(learner_run), "--support", str(pictures / "train"), "--output", str(kept)]) == 0
    capsys.readouterr()
    assert main(["export", str(kept), "--output", str(output), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["path"] == str(output)
    assert said["bytes"] == output.stat().st_size
    assert said["difference"] < 5e-3
    assert json.loads((tmp_path / "colors.pt2.json").read_text())["labels"] == ["blue", "green", "red"]
    images = torch.randint(0, 256, (3, 3, 40, 30), dtype=torch.uint8)
    found, _ = torch.export.load(output).module()(images)
    expected = FewShotClassifier.from_pretrained(kept).predict_proba(images)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)


def test_another_ending_is_refused_before_anything_is_read(capsys, tmp_path):
    assert main(["export", "nothing", "--output", str(tmp_path / "a.bin")]) == 1
    assert ".onnx or .pt2 or .xml" in capsys.readouterr().err


def test_an_input_size_is_refused_before_anything_is_read(capsys, tmp_path):
    assert main(["export", "nothing", "--output", str(tmp_path / "a.tflite"), "--input-size", "48"]) == 2
    assert main(["export", "nothing", "--output", str(tmp_path / "a.onnx"), "--input-size", "48x31"]) == 1
    assert "a file that ends in .tflite or .pte" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "resize to that before, with antialiasing"),
        (["--input-size", "48x31"], "48x31 (height x width) and resizes"),
    ],
)
def test_what_a_file_for_phones_takes_is_said(capsys, tmp_path, monkeypatch, learner_run, pictures, flags, said):
    def write(module, path, about, given):
        path.write_bytes(b"file")
        return lambda images: torch.no_grad()(module)(images)

    monkeypatch.setitem(ONE_PICTURE, ".tflite", write)
    kept, output = tmp_path / "kept", tmp_path / "colors.tflite"
    assert main(["adapt", str(learner_run), "--support", str(pictures / "train"), "--output", str(kept)]) == 0
    assert main(["export", str(kept), "--output", str(output), *flags]) == 0
    assert said in capsys.readouterr().out
    about = json.loads((tmp_path / "colors.tflite.json").read_text())
    assert about["input_size"] == ([48, 31] if flags else [about["image_size"]] * 2)
