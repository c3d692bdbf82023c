"""`hf-free demo`: what it is handed, and that no run is overwritten by accident."""

from __future__ import annotations

import errno
import json
import os

import pytest

from hf_free.cli.main import main


@pytest.fixture
def started(monkeypatch) -> list:
    """(output, seed) of each walkthrough that the program has started; none of them really runs."""
    asked = []

    def run_demo(output, seed, console, commands_to=None):
        asked.append((output, seed))
        console.print("the story")
        return {"rows": []}

    monkeypatch.setattr("hf_free.demo.walkthrough.run_demo", run_demo)
    return asked


def test_a_folder_in_use_is_refused_before_anything_starts(tmp_path, capsys, started):
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["demo", "--output", str(tmp_path)]) == 1
    assert f"the output folder {tmp_path} is not empty" in capsys.readouterr().err
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert not started


def test_a_place_that_cannot_be_written_to_is_refused_before_anything_starts(tmp_path, capsys, started, monkeypatch):
    """It was found out when the teachers had been trained."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("hf_free.training.run_lock.os.write", full)
    assert main(["demo", "--output", str(tmp_path / "new")]) == 1
    assert "no space is left" in capsys.readouterr().err
    assert not started
    assert not (tmp_path / "new").exists()


def test_output_and_seed_reach_the_walkthrough(tmp_path, started):
    assert main(["demo", "--output", str(tmp_path / "new"), "--seed", "7"]) == 0
    assert started == [(tmp_path / "new", 7)]


@pytest.mark.parametrize(("flag", "said"), [("--json", '"results": {'), ("-q", ""), (None, "the story")])
def test_stdout_is_the_results_the_folder_or_the_story(tmp_path, started, capsys, flag, said):
    place = tmp_path / "new"
    assert main(["demo", "--output", str(place), *([flag] if flag else [])]) == 0
    out, err = capsys.readouterr()
    assert said in out
    assert ("the story" in err) is (flag is not None)
    if flag == "-q":
        assert out == f"{place}\n"
    if flag == "--json":
        assert json.loads(out) == {"output": str(place), "results": {"rows": []}}
