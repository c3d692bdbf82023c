"""`hf-free pool`: teachers in, a learner's folder out, which the other verbs take."""

from __future__ import annotations

import json

from pico import pico_folder
from program import refused, run

QUICK = ("five.images_per_class=2", "five.latent_dim=8", "five.width=4", "five.inner_steps=1")


def test_pool_then_evaluate_then_predict(capsys, pictures, tmp_path):
    models = [str(pico_folder(tmp_path / kind, kind, size=16)) for kind in ("conv4", "resnet")]
    output = tmp_path / "pooled"
    code, out, _ = run(
        capsys, "pool", "--models", *models, "--output", str(output), "--rounds", "1", "--device", "cpu",
        "--set", *QUICK, "learner.views=[identity]", "--json",
    )  # fmt: skip
    assert (code, json.loads(out)) == (0, {"learner": str(output), "url": None})

    words = ["evaluate", str(output), "--dataset", str(pictures / "train"), "--n-way", "3", "--n-query", "2"]
    words += ["--k-shot", "1", "--episodes", "4", "--baselines", "all", "--transductive", "--json"]
    code, out, _ = run(capsys, *words)
    rows = {row["method"]: row for row in json.loads(out)["rows"]}
    assert code == 0
    assert rows["learner"]["accuracy"] > 90
    assert any("soft k-means" in method for method in rows)
    assert "no network of its own" in rows["untrained"]["note"]
    assert "all 2 teachers' features, concatenated" in rows

    words = ["predict", str(output), "--support", str(pictures / "train"), "--images", str(pictures / "new"), "--json"]
    code, out, _ = run(capsys, *words)
    assert code == 0
    assert all(row["image"].startswith(row["label"]) for row in json.loads(out))


def test_what_is_missing_or_wrong_is_said(capsys, tmp_path):
    assert "--output" in refused(capsys, "pool", "--models", "org/a", code=2)
    output = str(tmp_path / "pooled")
    assert "org/a b" in refused(capsys, "pool", "--models", "org/a b", "--output", output)
    text = refused(capsys, "pool", "--models", "org/a", "--output", output, "--set", "learner.heed=ridge")
    assert "learner.head" in text


def test_settings_that_are_not_read_and_numbers_that_are_none_are_refused(capsys, tmp_path):
    words = ["--models", "org/a", "--output", str(tmp_path / "out")]
    text = refused(capsys, "pool", *words, "--set", "memory.pictures=new")
    assert "--set memory.pictures is of no use here" in text
    assert "--pictures" in text
    assert "no use here" in refused(capsys, "distill", *words, "--set", "memory.max_images=3")
    assert "'30min' is not a number of minutes" in refused(capsys, "distill", *words, "--max-minutes", "30min", code=2)
    assert "0 is not a whole number" in refused(capsys, "distill", *words, "--num-processes", "0", code=2)
