"""A run with a real tracker: what it wrote is read back, and the run is the same to the bit as without."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing

import pytest
import torch
from pico import pico_folder
from runs import TINY

from hf_free import FreeConfig, train
from hf_free.config.reading import merge
from hf_free.training.folder import RunFolder
from hf_free.training.state import RunState
from hf_free.training.trackers import is_logged, tracked, tracked_score, tracked_settings


def test_terms_are_shown_in_groups_with_the_speed():
    state = RunState(step=4, seconds=120.0, pictures=60)
    row = {"step": 4, "minutes": 2.0, "memory": 8, "answers": 0.5, "gradient_cosine": 0.1}
    assert tracked(row, state) == {
        "throughput/minutes": 2.0,
        "memory/pictures": 8,
        "loss/answers": 0.5,
        "alignment/gradient_cosine": 0.1,
        "throughput/recovered_images_per_second": 0.5,
        "throughput/steps_per_minute": 2.0,
    }


def test_a_score_is_shown_once_there_is_one():
    assert tracked_score(RunState()) == {}
    assert tracked_score(RunState(last_score=0.75)) == {"accuracy/held_out": 0.75}


def test_all_settings_are_plain_values():
    flat = tracked_settings(FreeConfig(models=["org/a"]).to_dict())
    assert flat["models"] == "['org/a']"
    assert flat["five.inner_steps"] == 5
    assert flat["trainer.max_minutes"] == 30.0
    assert {type(value) for value in flat.values()} <= {int, float, bool, str}


@pytest.mark.draws
def test_tensorboard_holds_what_the_log_holds(tmp_path, monkeypatch):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    torch.set_num_threads(1)
    models = [str(pico_folder(tmp_path / f"t{seed}", seed=seed)) for seed in range(2)]
    values = merge(TINY, {"models": models, "trainer": {"steps": 4, "checkpoint_every": 2, "picture_every": 4}})
    for name in ("draw_pictures", "draw_heterogeneity"):  # at the end of both runs, where nobody is told of them
        monkeypatch.setattr(f"hf_free.training.finishing.{name}", lambda *_, **__: None)
    without = merge(values, {"trainer": {"picture_every": 1000}})
    plain = train(FreeConfig.from_dict(without), output=tmp_path / "plain")
    tracked_values = merge(values, {"trainer": {"log_with": ["tensorboard"]}})
    run = RunFolder(tmp_path / "run")
    learner = train(FreeConfig.from_dict(tracked_values), output=run.root)
    for name, weight in plain.state_dict().items():
        assert torch.equal(weight, learner.state_dict()[name]), name

    found = accumulator.EventAccumulator(str(run.trackers / "hf-free"))
    found.Reload()
    rows = run.read_log()
    answers = [(row["step"], row["answers"]) for row in rows if "answers" in row]
    assert len(answers) == 3
    shown = [(event.step, event.value) for event in found.Scalars("loss/answers")]
    assert [step for step, _ in shown] == [step for step, _ in answers]
    assert [value for _, value in shown] == pytest.approx([value for _, value in answers])
    assert [event.step for event in found.Scalars("throughput/minutes")] == [1, 2, 3, 4]
    state = json.loads((run.whole_checkpoint().folder / "state.json").read_text())
    assert found.Scalars("accuracy/held_out")[-1].value == pytest.approx(state["last_score"])
    (picture,) = found.Images("recovered")
    assert (picture.step, picture.encoded_image_string[:4]) == (4, b"\x89PNG")


def test_the_first_ten_steps_and_every_nth_are_logged():
    """A short run has curves; how often the later ones are logged is not how many first ones are."""
    for log_every, expected in ((1, range(1, 41)), (25, [*range(1, 11), 25]), (1000, range(1, 11))):
        config = FreeConfig.from_dict(merge(TINY, {"trainer": {"log_every": log_every}}))
        assert [step for step in range(1, 41) if is_logged(step, config.trainer.log_every)] == list(expected)


@pytest.mark.long
@pytest.mark.draws
def test_trackio_and_tensorboard_at_once_hold_what_the_log_holds(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when it is imported, below
    if "trackio" in sys.modules:
        pytest.skip("trackio was imported before, with another folder")
    pytest.importorskip("trackio")
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    models = [str(pico_folder(tmp_path / f"t{seed}", seed=seed)) for seed in range(2)]
    trainer = {"steps": 4, "picture_every": 4, "log_with": ["tensorboard", "trackio"]}
    for name in ("draw_pictures", "draw_heterogeneity"):
        monkeypatch.setattr(f"hf_free.training.finishing.{name}", lambda *_, **__: None)
    run = RunFolder(tmp_path / "first")
    train(FreeConfig.from_dict(merge(TINY, {"models": models, "trainer": trainer})), output=run.root)
    assert capsys.readouterr().out == ""

    answers = [(row["step"], row["answers"]) for row in run.read_log() if "answers" in row]
    with closing(sqlite3.connect(tmp_path / "trackio" / "hf-free.db")) as database:
        rows = database.execute("SELECT run_name, step, metrics FROM metrics ORDER BY step, id").fetchall()
    assert {name for name, _, _ in rows} == {"first"}
    told = [(step, json.loads(metrics)) for _, step, metrics in rows]
    assert [(step, one["loss/answers"]) for step, one in told if "loss/answers" in one] == answers
    (picture,) = (one["recovered"] for _, one in told if "recovered" in one)
    (file,) = (tmp_path / "trackio").rglob("*.png")
    assert picture["file_path"].endswith(file.name)
    found = accumulator.EventAccumulator(str(run.trackers / "hf-free"))
    found.Reload()
    assert [event.step for event in found.Scalars("loss/answers")] == [step for step, _ in answers]
