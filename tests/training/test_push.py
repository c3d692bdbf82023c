"""`hf_free.push` and `hf_free.plan_push`: as the verb, from Python."""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path

import pytest
from learners import make
from typer.main import get_command

import hf_free
from hf_free.cli.main import app

CODE = """
import json, hf_free
planned = hf_free.plan_push({run!r}, "alice/python-second", mark_predecessor=True)
told = {{"learner": str(planned.learner), "files": planned.files, "said": planned.new_version.said}}
told["url"] = hf_free.push({run!r}, "alice/python-second", private=True, commit_message="Ours") if {pushes} else None
print(json.dumps(told))
"""


@pytest.fixture
def run(tmp_path) -> Path:
    make("conv4_32").save_pretrained(tmp_path / "run" / "learner")
    (tmp_path / "run" / "learner" / "README.md").write_text("---\nlibrary_name: hf-free\n---\n# A learner\n")
    start = {"config": {"learner": {"init_from": "alice/python-first"}}}
    (tmp_path / "run" / "record.json").write_text(json.dumps(start))
    return tmp_path / "run"


def test_every_flag_of_the_verb_has_its_equal():
    flags = {option.name for option in get_command(app).commands["push"].params} - {"as_json", "quiet", "help"}
    assert set(inspect.signature(hf_free.push).parameters) == flags - {"dry_run"}
    assert set(inspect.signature(hf_free.plan_push).parameters) == flags - {"dry_run", "commit_message"}
    ours = set(inspect.signature(hf_free.MetaLearner.push_to_hub).parameters)
    assert flags - {"dry_run", "folder"} <= ours


def test_a_plan_uploads_nothing_and_a_push_uploads_what_it_says(hub, tokens, run_client, run):
    first = b"---\nlicense: mit\n---\n# The first\n"
    hub.add_repo("alice/python-first", {"README.md": first})
    planned = run_client(CODE.format(run=str(run), pushes=False), token=tokens["alice"]).json
    assert planned["said"] == "new_version: alice/python-second in the card of alice/python-first"
    assert planned["learner"] == str(run / "learner")
    with pytest.raises(KeyError):
        hub.repository("alice/python-second")
    # without a mark: a public learner may not be marked with a private one, which the plan would say
    done = run_client(CODE.format(run=str(run), pushes=True), token=tokens["alice"]).json
    assert done["url"] == f"{hub.endpoint}/alice/python-second"
    published = hub.read_repo("alice/python-second")
    assert planned["files"] == {name: len(published[name]) for name in planned["files"]}
    assert hub.repository("alice/python-second").private
    assert hub.history("alice/python-second")[0].title == "Ours"
    assert hub.read_repo("alice/python-first")["README.md"] == first


def test_without_a_token_a_plan_lists_the_files_and_says_what_was_not_asked(run_client, run, tmp_path):
    argv = [sys.executable, "-m", "hf_free.cli.main", "push", str(run), "alice/python-second", "--dry-run"]
    done = run_client(argv, home=tmp_path / "nobody")
    assert "model.safetensors" in done.stdout
    said = " ".join(done.stderr.split())
    assert "without a token it was not asked whether alice/python-second may be pushed to" in said


def test_the_predecessor_is_marked_if_asked(hub, tokens, run_client, run):
    hub.add_repo("alice/python-first", {"README.md": b"---\nlicense: mit\n---\n"})
    code = f"import hf_free; hf_free.push({str(run)!r}, 'alice/python-third', mark_predecessor=True); print(1)"
    run_client(code, token=tokens["alice"])
    assert b"new_version: alice/python-third" in hub.read_repo("alice/python-first")["README.md"]


def test_a_folder_without_a_learner_is_refused(tmp_path):
    for given in (tmp_path, tmp_path / "missing"):
        for call in (hf_free.push, hf_free.plan_push):
            with pytest.raises(hf_free.RunError, match="give the folder that hf-free train printed"):
                call(given, "me/few-shot")
    with pytest.raises(hf_free.ConfigError, match="folder="):
        hf_free.push(3, "me/few-shot")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"repo_id": 5}, "repo_id"),
        ({"repo_id": None}, "repo_id"),
        ({"revision": 3}, "revision"),
        ({"token": b"x"}, "token"),
        ({"private": None}, "private"),
        ({"create_pr": "no"}, "create_pr"),
        ({"mark_predecessor": "no"}, "mark_predecessor"),
    ],
)
def test_arguments_of_another_type_are_refused_by_their_names(run, given, named):
    for call in (hf_free.push, hf_free.plan_push):
        with pytest.raises(hf_free.ConfigError, match=named):
            call(run, **{"repo_id": "alice/odd", **given})
