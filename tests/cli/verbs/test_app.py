"""`hf-free app`: a Space is written, and what cannot be served is refused before anything is loaded."""

from __future__ import annotations

import json

from hf_free.cli.main import main


def test_a_space_is_written_and_how_to_upload_it_is_said(capsys, tmp_path):
    folder = tmp_path / "space"
    assert main(["app", "me/few-shot", "--space", "lab/try-it", "--output", str(folder)]) == 0
    out, err = capsys.readouterr()
    assert out == f"Space: {folder}\n"
    assert f"hf upload lab/try-it {folder} . --repo-type space" in err
    assert main(["app", "me/few-shot", "--space", "lab/try-it", "--output", str(folder), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["files"]) == 3


def test_what_cannot_be_served_is_refused(capsys, monkeypatch):
    monkeypatch.setattr("hf_free.demo.app.find_spec", lambda name: None)
    assert main(["app", "me/few-shot"]) == 1
    assert "pip install 'hf-free[app]'" in capsys.readouterr().err
    assert main(["app", "me/few-shot", "--output", "x"]) == 1
    assert "--output without --space" in capsys.readouterr().err
