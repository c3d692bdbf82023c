"""`hf-free serve`, as a user runs it."""

from __future__ import annotations

import json
import signal
import subprocess
import urllib.request

import pytest
from pico import pico_folder
from served import pictures, png
from verbs_at_work import PROGRAM

from hf_free.cli.main import main
from hf_free.config.sections import LearnerConfig
from hf_free.learner.meta_learner import MetaLearner


def test_it_says_where_it_answers_and_ends_cleanly(tmp_path):
    model = str(pico_folder(tmp_path / "model", size=16, num_classes=2, label_names=["day", "night"]))
    with subprocess.Popen(
        [*PROGRAM, "serve", model, "--port", "0", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        lines = []
        while not lines or lines[-1].rstrip() != "}":
            lines.append(process.stdout.readline())
        about = json.loads("".join(lines))
        assert about["labels"] == ["day", "night"]
        with urllib.request.urlopen(
            urllib.request.Request(about["address"], png(pictures(1)[0])), timeout=120
        ) as answer:
            assert {entry["label"] for entry in json.load(answer)} == {"day", "night"}
        process.send_signal(signal.SIGTERM)
        _, messages = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "Stopped after 1 pictures." in messages
    assert "Traceback" not in messages


@pytest.mark.long
def test_quiet_it_prints_its_address_alone(tmp_path):
    model = str(pico_folder(tmp_path / "model", size=16, num_classes=2))
    with subprocess.Popen(
        [*PROGRAM, "serve", model, "--port", "0", "-q"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        address = process.stdout.readline().strip()
        with urllib.request.urlopen(urllib.request.Request(address, png(pictures(1)[0])), timeout=120) as answer:
            assert len(json.load(answer)) == 2
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=120)
    assert rest == ""


def test_what_cannot_be_served_is_one_message(tmp_path, capsys):
    assert main(["serve", str(tmp_path), "--port", "0"]) == 1
    assert "config.json" in capsys.readouterr().err
    assert main(["serve", str(tmp_path), "--port", "70000"]) == 2
    assert "70000" in capsys.readouterr().err
    learner = tmp_path / "learner"
    MetaLearner.create(LearnerConfig(backbone="conv4_32", image_size=16)).save_pretrained(learner)
    (tmp_path / "config.yaml").write_text("models: []\n")
    assert main(["serve", str(tmp_path), "--port", "0"]) == 1
    assert f"{learner} is a learner of hf-free" in capsys.readouterr().err, "of a run, its learner is named"
