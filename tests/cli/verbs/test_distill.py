"""`hf-free distill`: a pooled learner in, one network out."""

from __future__ import annotations

import json

import pytest
from pico import pico_folder

from hf_free import MetaLearner, load_teacher, pool
from hf_free.cli.main import main
from hf_free.config.sections import LearnerConfig
from hf_free.evaluation.flops import count


def test_the_command_makes_the_learner_and_says_how_much_it_agrees(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("hf_free.training.distill.FIRST_PICTURES", 64)
    monkeypatch.setattr("hf_free.training.distill.HELD_OUT", 64)
    folders = [str(pico_folder(tmp_path / kind, kind, size=16)) for kind in ("conv4", "resnet")]
    unmirrored = LearnerConfig(views=["identity"])
    pool(folders, output=tmp_path / "pooled", rounds=0, learner=unmirrored, device="cpu")
    output = tmp_path / "small"
    words = ["distill", str(tmp_path / "pooled"), "--output", str(output), "--max-minutes", "0.02", "--json"]
    assert main([*words, "--backbone", "conv4_32", "--image-size", "16", "--set", "bell.batch_size=16"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["learner"] == str(output)
    assert 0 < said["agreement"] <= 1
    small = MetaLearner.from_pretrained(output)
    assert (small.config.image_size, small.views) == (16, ("identity",)), "mirrored as little as the pooled learner"
    teachers = [load_teacher(folder) for folder in folders]
    assert said["pooled_parameters"] == sum(teacher.record.parameters for teacher in teachers)
    assert said["pooled_flops"] == sum(count(teacher).forward_flops for teacher in teachers)
    assert 0 < said["flops"] < said["pooled_flops"]
    assert main(words) == 1
    assert str(output) in capsys.readouterr().err
    usual = [*words[:3], str(tmp_path / "usual"), "--max-minutes", "0.001"]
    with monkeypatch.context() as signaled:
        signaled.setattr("hf_free.runtime.interrupts.StopBetweenSteps.wanted", True)
        assert main(usual) == 75
    assert "the same command with --resume" in capsys.readouterr().err
    assert main(usual) == 1
    assert main([*usual, "--resume"]) == 0
    assert MetaLearner.from_pretrained(tmp_path / "usual").config.backbone == "conv4_384"
    (tmp_path / "head.yaml").write_text("learner: {head: logistic}")
    headed = [*words[:3], str(tmp_path / "headed"), "--max-minutes", "0.001", "--config", str(tmp_path / "head.yaml")]
    assert main(headed) == 0
    made = MetaLearner.from_pretrained(tmp_path / "headed").config
    assert (made.backbone, made.head) == ("conv4_384", "logistic"), "a file that names no network changes none"
    assert main(["distill", str(output), "--output", str(tmp_path / "again")]) == 1
    assert "one network already" in capsys.readouterr().err
    started = [*words[:3], str(tmp_path / "started"), "--max-minutes", "0.001", "--start-from", folders[1]]
    assert main([*started, "--backbone", "conv4_32"]) == 1
    assert "learner.backbone and a network that starts from" in " ".join(capsys.readouterr().err.split())
    assert main(started) == 0
    assert f"started from the weights of {folders[1]}," in " ".join(capsys.readouterr().err.split())


def test_teachers_are_pooled_first_where_they_are_given(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("hf_free.training.distill.FIRST_PICTURES", 64)
    monkeypatch.setattr("hf_free.training.distill.HELD_OUT", 64)
    folders = [str(pico_folder(tmp_path / kind, kind, size=16)) for kind in ("conv4", "resnet")]
    output = tmp_path / "small"
    words = ["distill", "--output", str(output), "--max-minutes", "0.001", "--backbone", "conv4_32", "--device", "cpu"]
    assert main([*words, "--models", *folders, "--set", "five.inner_steps=1"]) == 0
    assert f"Pooled learner: {output}-pooled" in capsys.readouterr().err
    small, pooled = MetaLearner.from_pretrained(output), MetaLearner.from_pretrained(f"{output}-pooled")
    assert pooled.full_record().is_pooled
    assert len(small.record.teachers) == 2
    for wrong in ([], [str(output), "--models", *folders]):
        assert main([*words, *wrong]) == 1
        assert "one of them" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(("minutes", "said"), [("1", "not empty"), ("0", "minutes=0")])
def test_what_would_be_refused_is_refused_before_teachers_are_pooled(tmp_path, capsys, minutes, said):
    output = tmp_path / ("taken" if minutes == "1" else "free")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    folder = str(pico_folder(tmp_path / "teacher", "conv4", size=16))
    assert main(["distill", "--models", folder, "--output", str(output), "--max-minutes", minutes]) == 1
    assert said in " ".join(capsys.readouterr().err.split())
    assert not output.with_name(f"{output.name}-pooled").exists()
