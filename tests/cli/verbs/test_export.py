"""`hf-free export`: a file that was compared before it was kept."""

from __future__ import annotations

import json

import torch

from hf_free.cli.main import main
from hf_free.learner.classifier import FewShotClassifier


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
