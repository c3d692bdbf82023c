"""`hf-free app`: a Space is made, and what cannot be served is refused before anything is loaded."""

from __future__ import annotations

import json
import re

from verbs_at_work import PROGRAM

from hf_free.cli.main import main

LEARNER = b'{"hf_free": {}}'


def test_a_space_is_written_and_nothing_uploaded_on_a_dry_run(capsys, tmp_path):
    folder = tmp_path / "space"
    words = ["app", "me/few-shot", "--space", "lab/try-it", "--output", str(folder), "--dry-run"]
    assert main(words) == 0
    assert capsys.readouterr().out == f"Space: {folder}\n"
    assert main([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (len(said["files"]), said["url"]) == (3, None)


def test_a_space_is_uploaded_as_one(hub, tokens, run_client, tmp_path):
    hub.add_repo("me/few-shot", {"config.json": LEARNER})
    words = [*PROGRAM, "app", "me/few-shot", "--space", "alice/try-it", "--output", str(tmp_path / "space"), "-q"]
    done = run_client(words, token=tokens["alice"])
    assert done.stdout == f"{hub.endpoint}/spaces/alice/try-it\n"
    published = hub.read_repo("alice/try-it", repo_type="space")
    for path in (tmp_path / "space").iterdir():
        assert published[path.name] == path.read_bytes()
    assert hub.history("alice/try-it", repo_type="space")[0].title == "App of me/few-shot by hf-free"
    hub.add_repo("me/teacher", {"config.json": b"{}", "model.safetensors": b""})
    for name, said in (("me/nowhere", "does not exist"), ("me/teacher", "holds no learner")):
        words[4] = name
        refused = run_client(words, token=tokens["alice"], check=False)
        assert f"{name} {said}" in refused.stderr


def test_what_was_edited_in_a_space_is_kept_and_another_space_left_alone(hub, tokens, run_client, tmp_path):
    hub.add_repo("me/few-shot", {"config.json": LEARNER})
    words = [*PROGRAM, "app", "me/few-shot", "--space", "alice/mine", "--output", str(tmp_path / "space"), "-q"]
    run_client(words, token=tokens["alice"])
    made = hub.read_repo("alice/mine", repo_type="space")
    edited = made["README.md"].replace(b"# mine", b"# My own words")
    older = re.sub(rb"==.*", b"==0.0.1", made["requirements.txt"])
    hub.add_repo("alice/mine", {"README.md": edited, "requirements.txt": older}, repo_type="space")
    words[-2] = str(tmp_path / "again")
    said = run_client(words, token=tokens["alice"]).stderr
    assert "README.md was edited in the Space alice/mine, and is kept" in said
    assert hub.read_repo("alice/mine", repo_type="space") == {**made, "README.md": edited}, "an older version goes"
    assert (tmp_path / "again" / "README.md").read_bytes() == edited

    theirs = {"README.md": b"---\nsdk: static\n---\n", "index.html": b"hello"}
    hub.add_repo("alice/page", theirs, repo_type="space")
    refused = run_client([*words[:5], "--space", "alice/page"], token=tokens["alice"], check=False, cwd=tmp_path)
    assert "alice/page holds something else than an app of hf-free" in refused.stderr
    assert hub.read_repo("alice/page", repo_type="space")["README.md"] == theirs["README.md"]
    hub.add_repo("alice/new", {"README.md": theirs["README.md"], ".gitattributes": b""}, repo_type="space")
    run_client([*words[:5], "--space", "alice/new"], token=tokens["alice"], cwd=tmp_path)
    assert b"models:" in hub.read_repo("alice/new", repo_type="space")["README.md"]


def test_what_cannot_be_served_is_refused(capsys, monkeypatch):
    monkeypatch.setattr("hf_free.demo.app.find_spec", lambda name: None)
    assert main(["app", "me/few-shot"]) == 1
    assert "pip install 'hf-free[app]'" in capsys.readouterr().err
    monkeypatch.setattr("hf_free.demo.app.find_spec", lambda name: None if name == "mcp" else name)
    assert main(["app", "me/few-shot", "--mcp"]) == 1
    assert "pip install 'hf-free[mcp]'" in capsys.readouterr().err
    assert main(["app", "me/few-shot", "--output", "x"]) == 1
    assert "--output without --space" in capsys.readouterr().err
    assert main(["app", "me/few-shot", "--space", "me/space", "--port", "7000", "--mcp"]) == 1
    assert "--port, --mcp with --space" in capsys.readouterr().err


def test_where_it_is_served_is_said_when_it_is(capsys, monkeypatch):
    monkeypatch.setattr("hf_free.demo.app.find_spec", lambda name: name)
    monkeypatch.setattr("hf_free.demo.app.serve", lambda learner, **how: how["started"]("http://127.0.0.1:7861/"))
    assert main(["app", "me/few-shot"]) == 0
    assert "Serving at http://127.0.0.1:7861/" in capsys.readouterr().err
