"""`report`: pages about real runs, made and pooled, finished and not."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import records
from drawing import with_drawing
from pico import pico_folder
from runs import TINY

from hf_free.config.reading import merge
from hf_free.config.tree import FreeConfig
from hf_free.errors import RunError
from hf_free.training.report import read_run, report
from hf_free.training.trainer import train

NAMES = ["ant", "<b>bee</b>", "cat", "dog", "eel"]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run of a second, from two teachers of five classes."""
    root = tmp_path_factory.mktemp("reported")
    models = [
        str(pico_folder(root / "some folder" / name, size=16, seed=seed, label_names=NAMES))
        for seed, name in enumerate(("first", "second"))
    ]
    config = FreeConfig.from_dict(merge(TINY, {"models": models}))
    with with_drawing():
        train(config, output=root / "run")
    return root / "run"


def test_a_run_is_read_with_pictures_curves_and_results(run, tmp_path):
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    (folder / "results.json").write_text(json.dumps(records.report("lab/birds")))
    (tmp_path / "more.json").write_text(json.dumps(records.report("lab/fish")))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    page = report([folder], tmp_path / "page.html", results=[tmp_path / "more.json"]).read_text(encoding="utf-8")
    assert page.count("from more.json, named when the page was made; which learner it is of, it does not say") == 1
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    for text in ("1: first", "2: second", "&lt;b&gt;bee&lt;/b&gt;", "lab/birds", "lab/fish", "Map of classes", "6"):
        assert text in page, text
    assert "some folder" not in page
    assert str(tmp_path.parent) not in page
    assert re.search(r"recovered from 1: first for its class ant", page)


def test_shown_pictures_are_those_that_the_run_recovered(run):
    shown = read_run(run, draws_map=False)
    assert {one.teacher for one in shown.recovered} == {"1: first", "2: second"}
    assert {one.label for one in shown.recovered} <= set(NAMES)
    assert shown.class_map is None
    assert shown.classes_in_all == len(shown.recovered) <= 10
    assert shown.pictures_in_all >= sum(len(one.pixels) for one in shown.recovered) > 0
    assert [row["step"] for row in shown.log] == list(range(1, 7))


def test_runs_of_one_name_are_told_apart_and_an_unfinished_one_is_shown(run, tmp_path):
    other = Path(shutil.copytree(run, tmp_path / "half" / "run"))
    shutil.rmtree(other / "learner")
    shown = read_run(other)
    assert (shown.is_finished, shown.record.training.steps) == (False, 6)
    assert len(shown.record.teachers) == 2
    page = report([run, other], tmp_path / "two.html", draws_map=False).read_text(encoding="utf-8")
    assert "half/run" in page
    assert "Not finished" in page


def test_private_teachers_are_named_by_number_and_their_classes_too(run, tmp_path):
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    for path, key in ((folder / "learner" / "config.json", "hf_free"), (folder / "teachers.json", None)):
        values = json.loads(path.read_text())
        block = values[key] if key else values
        hidden = {"private": True, "repo_id": "lab/hush", "reference": "lab/hush", "label_names": ["hush"] * 5}
        block["teachers"][0] |= hidden
        path.write_text(json.dumps(values))
    page = report([folder], tmp_path / "page.html").read_text(encoding="utf-8")
    assert "hush" not in page
    assert "1: conv4_32" in page
    assert "a private teacher" in page


def test_a_learner_alone_is_a_run_without_curves(run, tmp_path):
    shown = read_run(run / "learner")
    assert (shown.is_finished, shown.is_pooled, shown.log, shown.name) == (True, False, (), "learner")


def test_pipes_devices_and_large_files_in_the_place_of_records_are_not_read(tmp_path, run):
    for name in ("pipe", "zero", "sparse"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "pipe" / "config.json")
    (tmp_path / "zero" / "config.json").symlink_to("/dev/zero")
    with (tmp_path / "sparse" / "config.json").open("wb") as file:
        file.truncate(2**40)
    for name in ("pipe", "zero", "sparse"):
        with pytest.raises(RunError, match="neither a run nor a learner"):
            read_run(tmp_path / name)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "config.json").write_bytes(b'{"hf_free": {}, "x": [' + b"[]," * 2**20 + b"[]]}")
    with pytest.raises(RunError, match=r"its config\.json cannot be read: it has more than 1048576 values"):
        read_run(tmp_path / "lists")  # a learner is a stranger's
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    (folder / "pictures" / "teachers.png").unlink(missing_ok=True)
    os.mkfifo(folder / "pictures" / "teachers.png")
    assert read_run(folder, draws_map=False).views == b""


def test_an_unfinished_run_whose_note_of_teachers_is_odd_is_shown_without_pictures(tmp_path, run, caplog):
    copy = shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(copy / "learner")
    note = json.loads((copy / "teachers.json").read_text())
    for change in ([[]], [{"label_names": {"a": 1}}]):
        (copy / "teachers.json").write_text(json.dumps({**note, "teachers": change}))
        caplog.clear()
        assert not read_run(copy).recovered
        assert "the recovered pictures are left out" in caplog.text


def test_a_learner_that_cannot_be_read_is_said(tmp_path, run, caplog):
    """A machine that loses power may leave an empty file; the run is finished all the same."""
    shutil.copytree(run, tmp_path / "run")
    read_run(tmp_path / "run")
    assert not caplog.messages
    (tmp_path / "run" / "learner" / "config.json").write_bytes(b"")
    assert not read_run(tmp_path / "run").is_finished
    assert "the learner is left out" in caplog.text
    assert "config.json cannot be read" in caplog.text


def test_what_a_loss_of_power_took_of_a_run_is_said(tmp_path, run, caplog):
    """It may leave a file's length, and zeros in the place of its bytes."""
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    for name in ("teachers.json", "log.jsonl", "pictures/teachers.png"):
        (folder / name).write_bytes(bytes(200))
    read_run(folder, draws_map=False)
    assert "log.jsonl: 1 damaged line left out" in caplog.text
    assert "teachers.json cannot be read" in caplog.text
    assert "the recovered pictures are left out" in caplog.text
    assert "teachers.png is left out: it is no PNG" in caplog.text


def test_what_is_no_run_and_no_result_is_refused(tmp_path, run, caplog):
    with pytest.raises(RunError, match="neither a run nor a learner"):
        report([tmp_path], tmp_path / "page.html")
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"rows": [1]}')
    with pytest.raises(RunError, match="holds no results"):
        report([run], tmp_path / "page.html", results=[wrong])
    odd = tmp_path / "odd.json"
    numbers = {"accuracy": ("'high'", "-3", "250"), "interval": ("-4",), "n_way": ("1", "-3", "2.5")}
    for key, values in {**numbers, "episodes": ("0", "true")}.items():
        for value in values:
            row = f'{{"method": "learner", "{key}": {value}}}'.replace("'", '"')
            odd.write_text(f'{{"dataset": "d", "rows": [{row}]}}')
            with pytest.raises(RunError, match=f"holds no results: {key} of a row is"):
                report([run], tmp_path / "page.html", results=[odd])
    with pytest.raises(RunError, match="lists of folders and of files"):
        report([run], tmp_path / "page.html", results=str(odd))
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    shutil.copyfile(wrong, folder / "results.json")
    assert read_run(folder, draws_map=False).record.results == ()
    assert "left out" in caplog.text
    with pytest.raises(RunError, match="no run to report on"):
        report([], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
