"""`hf-free report`: where the page goes, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

from hf_free.cli.main import main
from hf_free.training.report import default_page


def test_the_page_lies_in_the_first_run_unless_it_is_named(capsys, learner_run, tmp_path):
    named = tmp_path / "page.html"
    assert main(["report", str(learner_run), str(learner_run / "learner"), "--output", str(named), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["report"] == str(named)
    assert said["bytes"] == named.stat().st_size
    assert "learner" in named.read_text(encoding="utf-8")
    before = set((learner_run / "learner").iterdir())
    assert main(["report", str(learner_run / "learner")]) == 0
    assert set((learner_run / "learner").iterdir()) == before, "all of it is published with a push"
    written = learner_run / "learner-report.html"
    assert capsys.readouterr().out.startswith(f"Report: {written}, ")
    assert written.is_file()
    written.unlink()


def test_another_ending_and_a_folder_that_is_no_run_are_refused(capsys, tmp_path):
    assert main(["report", str(tmp_path), "--output", str(tmp_path / "page.pdf")]) == 1
    assert ".html or .htm" in capsys.readouterr().err
    assert main(["report", str(tmp_path)]) == 1
    assert "is neither a run nor a learner" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_page_of_a_run_lies_in_its_folder(tmp_path):
    (tmp_path / "config.yaml").write_text("method: default\n")
    assert default_page(tmp_path) == tmp_path / "report.html"
    assert default_page(Path("runs/learner")) == Path("runs/learner-report.html"), "as it was typed"


def test_the_file_of_own_networks_is_imported(capsys, tmp_path):
    """A learner with such a backbone is opened to draw how it sees its classes."""
    file = tmp_path / "networks.py"
    file.write_text("from pathlib import Path\nPath(__file__).with_suffix('.seen').touch()\n")
    assert main(["report", str(tmp_path), "--import", str(file)]) == 1
    assert file.with_suffix(".seen").exists()
    assert main(["app", "me/few-shot", "--space", "me/space", "--import", str(file)]) == 1
    assert "--import with --space" in capsys.readouterr().err
