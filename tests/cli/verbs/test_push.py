"""`hf-free push`: a run to the loopback Hub."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from verbs_at_work import PROGRAM


def test_push_publishes_a_run(hub, tokens, run_client, learner_run):
    words = ["push", str(learner_run), "alice/cli-pushed", "--private", "--commit-message", "First learner", "--json"]
    done = run_client([*PROGRAM, *words], token=tokens["alice"])
    assert json.loads(done.stdout)["url"].startswith(hub.endpoint)
    published = hub.read_repo("alice/cli-pushed")
    for name in ("config.json", "model.safetensors", "hf_free.safetensors", "README.md"):
        assert published[name] == (learner_run / "learner" / name).read_bytes()
    assert hub.repository("alice/cli-pushed").private
    assert hub.history("alice/cli-pushed")[0].title == "First learner"


def test_a_failed_push_leaves_the_learner_and_says_how_to_go_on(tokens, run_client, learner_run, tmp_path):
    folder = Path(shutil.copytree(learner_run / "learner", tmp_path / "learner"))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    done = run_client([*PROGRAM, "push", str(folder), "bob/cli-pushed"], token=tokens["alice"], check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("try again with: hf-free push ") == 1
    assert f"{folder} is unchanged; try again with: hf-free push {folder} bob/cli-pushed" in done.stderr
    assert "Traceback" not in done.stderr
    assert tokens["alice"] not in done.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_dry_run_shows_what_a_push_uploads_and_creates_nothing(hub, tokens, run_client, learner_run, tmp_path):
    learner_run = shutil.copytree(learner_run, tmp_path / "run")
    (learner_run / "learner" / ".git").mkdir()
    (learner_run / "learner" / ".git" / "config").touch()  # which no push takes
    words = [*PROGRAM, "push", str(learner_run), "alice/cli-planned", "--json"]
    planned = json.loads(run_client([*words, "--dry-run"], token=tokens["alice"]).stdout)["files"]
    with pytest.raises(KeyError):
        hub.repository("alice/cli-planned")
    refused = run_client([*words, "--dry-run"], token=tokens["bob"], check=False)
    assert refused.returncode == 1
    assert "alice/cli-planned" in refused.stderr
    run_client(words, token=tokens["alice"])
    published = hub.read_repo("alice/cli-planned")
    assert planned == {name: len(published[name]) for name in planned}
    assert set(published) - set(planned) <= {".gitattributes"}


def test_the_predecessor_is_marked_only_if_asked_and_a_dry_run_says_so(hub, tokens, run_client, learner_run, tmp_path):
    run = Path(shutil.copytree(learner_run, tmp_path / "run"))
    (run / "record.json").write_text(json.dumps({"config": {"learner": {"init_from": "alice/cli-first"}}}))
    card = b"---\nlicense: mit\n---\n# The first\n"
    hub.add_repo("alice/cli-first", {"README.md": card})
    words = [*PROGRAM, "push", str(run), "alice/cli-second"]
    planned = run_client([*words, "--mark-predecessor", "--dry-run"], token=tokens["alice"])
    assert "There would be new_version: alice/cli-second in the card of alice/cli-first." in planned.stderr
    run_client(words, token=tokens["alice"])
    assert hub.read_repo("alice/cli-first")["README.md"] == card
    done = run_client([*words, "--mark-predecessor", "--json"], token=tokens["alice"])
    assert json.loads(done.stdout)["new_version_of"] == "alice/cli-first"
    marked = b"---\nlicense: mit\nnew_version: alice/cli-second\n---\n# The first\n"
    assert hub.read_repo("alice/cli-first")["README.md"] == marked
