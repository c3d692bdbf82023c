"""`hf-free train`: what is refused before anything is fetched or written."""

from __future__ import annotations

from pathlib import Path

import pytest
from pico import pico_folder, pico_teacher
from program import MODELS, refused
from runs import TINY

from hf_free.cli.main import main
from hf_free.config.reading import merge
from hf_free.config.tree import FreeConfig
from hf_free.serving.served_model import ServedTeacher
from hf_free.serving.server import ModelServer


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--steps", "0"], ["trainer.steps = '0'", "greater than or equal to 1"]),
        (["--seed", "-1"], ["seed = '-1'"]),
        (["--recipe", "best"], ["method = 'best'", "'default', 'paper', "]),
        (["--mixed-precision", "fp8"], ["trainer.mixed_precision = 'fp8'", "allowed: 'auto', 'no', 'bf16' or 'fp16'"]),
        (["--set", "defects=[x]"], ["defects holds 'x'", "--set defects='[store_last_teacher_only]'"]),
        (["--set", "five.images_per_class=1"], ["allowed: a value greater than or equal to 2"]),
        (["--set", "five.inner_step=3"], ["'five.inner_step'", "did you mean five.inner_steps"]),
        (["--set", "unknown=3"], ["unknown configuration key 'unknown'"]),
        (["--set", "five.inner_steps=many"], ["five.inner_steps = 'many'"]),
        (["--set", "five.inner_steps"], ["--set 'five.inner_steps'", "section.key=value"]),
        (["--config", "missing.yaml"], ["missing.yaml", "give an existing file"]),
        (["--query-budget", "-1"], ["queries.budget = '-1'", "greater than or equal to 0"]),
        (["--resume"], ["--resume without --output", "hf-free train --resume --output DIR"]),
    ],
)
def test_impossible_settings(capsys, words, parts):
    message = refused(capsys, "train", *MODELS, *words)
    for part in parts:
        assert part in message


def test_a_backbone_that_does_not_exist_is_refused_before_anything_is_fetched_or_written(capsys, tmp_path):
    output = tmp_path / "run"  # the teachers do not exist either, and are not what is complained about
    words = ["--set", "learner.backbone=nonet", "--max-minutes", "1"]
    for more in (["--output", str(output)], ["--dry-run"]):
        assert "knows no backbone 'nonet'" in refused(capsys, "train", *MODELS, *words, *more)
    assert not output.exists()


def test_broken_configuration_files(capsys, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("five: [unclosed")
    assert "is not valid YAML" in refused(capsys, "train", *MODELS, "--config", str(path))
    path.write_text("- a\n- b\n")
    assert "a mapping of keys to values" in refused(capsys, "train", *MODELS, "--config", str(path))
    path.write_text("fvie:\n  inner_steps: 3\n")
    assert "unknown configuration key 'fvie'" in refused(capsys, "train", *MODELS, "--config", str(path))
    path.write_text("five: 3\n")
    assert "five = 3" in refused(capsys, "train", *MODELS, "--config", str(path))


def test_no_models(capsys):
    message = refused(capsys, "train", "--seed", "1")
    assert "no models given" in message
    assert "hf-free train --models" in message


@pytest.mark.parametrize("models", [["org/a:0-4"], ["org/a:0-4", "org/a:0-4"]])
def test_fewer_than_two_tasks(capsys, models):
    message = refused(capsys, "train", "--models", *models)
    assert "fewer than two tasks: the only teacher is org/a:0-4" in message
    assert "two or more different teachers" in message


def test_malformed_teacher(capsys):
    assert "'resnet18' names 'resnet18' without an organization" in refused(
        capsys, "train", "--models", "org/a", "resnet18"
    )
    assert "'./nowhere' is a local folder that does not exist" in refused(
        capsys, "train", "--models", "org/a", "./nowhere"
    )


def test_missing_list_file(capsys):
    assert "cannot read the list @nowhere.txt" in refused(capsys, "train", "--models", "@nowhere.txt", code=2)


def snapshot(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def earlier(tmp_path):
    """A folder as an earlier run left it."""
    folder = tmp_path / "run"
    (folder / "learner").mkdir(parents=True)
    (folder / "config.yaml").write_text("seed: 7\n")
    (folder / "learner" / "model.safetensors").write_text("weights")
    return folder


def test_an_output_folder_in_use_is_refused_and_untouched(capsys, earlier):
    before = snapshot(earlier)
    message = refused(capsys, "train", *MODELS, "--output", str(earlier))
    assert f"the output folder {earlier} is not empty" in message
    assert "--resume or --overwrite" in message
    assert snapshot(earlier) == before


def test_only_runs_are_overwritten(capsys, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    for flags in ([], ["--overwrite"]):
        message = refused(capsys, "train", *MODELS, "--output", str(tmp_path), *flags)
        assert "give another --output" in message
    assert snapshot(tmp_path) == {"thesis.txt": "years of work"}


def test_a_file_is_no_output_folder(capsys, tmp_path):
    path = tmp_path / "file"
    path.write_text("kept")
    assert "is a file" in refused(capsys, "train", *MODELS, "--output", str(path))
    assert path.read_text() == "kept"


def test_nothing_to_resume(capsys, tmp_path):
    assert "nothing to resume" in refused(capsys, "train", *MODELS, "--output", str(tmp_path), "--resume")


def test_overwrite_and_resume_exclude_each_other(capsys, earlier):
    message = refused(capsys, "train", *MODELS, "--output", str(earlier), "--resume", "--overwrite")
    assert "--overwrite and --resume together" in message


def test_black_boxes_are_asked_with_their_token_within_a_budget(capsys, tmp_path):
    own = str(pico_folder(tmp_path / "own", size=16))
    config = FreeConfig.from_dict(merge(TINY, {"trainer": {"steps": 3}})).to_yaml()
    (tmp_path / "run.yaml").write_text(config)
    with ModelServer(ServedTeacher(pico_teacher("conv4", size=16)), token="secret") as server:
        words = ["train", "--models", own, f"endpoint:{server.address}", "--config", str(tmp_path / "run.yaml")]
        words += ["--output", str(tmp_path / "run"), "--query-budget", "10"]
        assert "give its token: --endpoint-token" in refused(capsys, *words)
        assert not (tmp_path / "run" / "config.yaml").exists()
        assert main([*words, "--endpoint-token", "secret"]) == 0
        assert server.answered == 10
        assert main(["pool", "--models", own, f"endpoint:{server.address}", "--output", str(tmp_path / "p")]) == 1
    assert b"secret" not in b"".join(path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file())


def test_a_publication_without_a_repository_and_an_output_in_use_are_refused_for_a_plan_too(capsys, tmp_path):
    words = ["train", *MODELS, "--output", str(tmp_path / "out"), "--dry-run"]
    assert "--private without --push-to-hub" in refused(capsys, *words, "--private")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert "is not empty" in refused(capsys, *words)
    assert "--overwrite replaces a run of hf-free train" in refused(capsys, *words, "--overwrite")
