"""A folder in one commit: safe to repeat, refusals with their way out."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shlex
from pathlib import Path

import pytest
from hub_calls import FILES, WEIGHTS
from raw_server import served

from hf_free.errors import HubError
from hf_free.hub.loopback.messages import Answer
from hf_free.hub.loopback.server import HubHandler
from hf_free.hub.upload import MESSAGE, check_branch, explain_push, push_command


def test_push_makes_the_repository_and_one_commit(hub, tokens, ask, learner):
    call = f"push_folder, Path({str(learner)!r}), 'lab/pushed', commit_message='first'"
    first, second = ask(call, call, token=tokens["alice"])
    assert first["value"] == second["value"] == f"{hub.endpoint}/lab/pushed"
    history = hub.history("lab/pushed")
    assert [commit.title for commit in history] == ["first", "initial commit"]
    files = hub.read_repo("lab/pushed")
    assert files["model.safetensors"] == WEIGHTS
    assert set(files) == {*FILES, "pictures/grid.png", ".gitattributes"}
    assert not hub.repository("lab/pushed").private


def test_push_options(hub, tokens, ask, learner):
    hub.add_repo("alice/options", {"README.md": b"by hand", "notes.txt": b"n"})
    push = f"push_folder, Path({str(learner)!r}), 'alice/options'"
    branch, pull, kept, replaced, private = ask(
        f"{push}, revision='v2'",
        f"{push}, create_pr=True",
        f"{push}, replace_card=False",
        push,
        f"push_folder, Path({str(learner)!r}), 'alice/made-private', private=True",
        token=tokens["alice"],
    )
    same = ask(f"{push}, create_pr=True", token=tokens["bob"])
    (learner / "config.json").write_text("{}")
    theirs = ask(f"{push}, create_pr=True", token=tokens["bob"])
    assert same["value"] == f"{hub.endpoint}/alice/options", "there is nothing to propose"
    assert theirs["value"] == f"{hub.endpoint}/alice/options/discussions/2", "anyone may propose"
    assert branch["value"] == f"{hub.endpoint}/alice/options/tree/v2"
    assert pull["value"] == f"{hub.endpoint}/alice/options/discussions/1"
    assert hub.read_repo("alice/options", "refs/pr/1")["model.safetensors"] == WEIGHTS
    after_kept, after_replaced = hub.history("alice/options")[1::-1]
    assert kept["error"] is replaced["error"] is private["error"] is None
    assert hub.read_repo("alice/options", after_kept.id)["README.md"] == b"by hand"
    assert hub.read_repo("alice/options", after_replaced.id)["README.md"] == FILES["README.md"]
    assert hub.read_repo("alice/options")["notes.txt"] == b"n", "files we do not have stay"
    assert hub.repository("alice/made-private").private


def test_files_that_the_hub_passes_over_are_named(hub, tokens, ask, learner, monkeypatch):
    """A .gitignore of the repository had the push succeed without the weights."""
    answer = HubHandler._answer

    def without_weights(self, body):
        found = answer(self, body)
        if "/alice/ignores/preupload" in self.path:
            for file in found.body["files"]:
                file["shouldIgnore"] = file["path"].endswith(".safetensors")
        return found

    monkeypatch.setattr(HubHandler, "_answer", without_weights)
    said = ask(f"push_folder, Path({str(learner)!r}), 'alice/ignores'", token=tokens["alice"])
    assert "the Hub took the upload, but model.safetensors did not arrive as they are here" in said["error"]
    assert ".gitignore" in said["error"]
    assert "model.safetensors" not in hub.read_repo("alice/ignores")


def test_the_token_does_not_follow_an_address_that_the_storage_names(hub, tokens, ask, tmp_path, monkeypatch):
    """huggingface_hub sends it along to whatever is to verify an upload."""
    (tmp_path / "learner").mkdir()
    (tmp_path / "learner" / "model.safetensors").write_bytes(os.urandom(1000))
    answer = HubHandler._answer

    with served(lambda closing: [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"]) as elsewhere:

        def verified_elsewhere(self, body):
            found = answer(self, body)
            if "/alice/verified.git/info/lfs" in self.path:
                for entry in found.body["objects"]:
                    entry["actions"]["verify"] = {"href": f"{elsewhere}/verify"}
            return found

        monkeypatch.setattr(HubHandler, "_answer", verified_elsewhere)
        said = ask(f"push_folder, Path({str(tmp_path / 'learner')!r}), 'alice/verified'", token=tokens["alice"])
    assert "did not reach the storage" in said["error"]
    assert tokens["alice"] not in said["error"]


@pytest.mark.parametrize("path", ["/lfs/", "/api/models/alice/moved/commit/main", "/api/models/alice/moved/preupload"])
def test_what_is_pushed_follows_no_redirect_to_another_host(hub, tokens, ask, tmp_path, monkeypatch, path):
    """Nor does the token. Where large files go is named beforehand."""
    (tmp_path / "learner").mkdir()
    (tmp_path / "learner" / "model.safetensors").write_bytes(os.urandom(1000))
    answer, asked = HubHandler._answer, []

    with served(lambda closing: asked.append(1) or [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"]) as elsewhere:
        moved = Answer(status=307, headers={"Location": f"{elsewhere}/there?signature=x"})
        monkeypatch.setattr(
            HubHandler, "_answer", lambda self, body: moved if self.path.startswith(path) else answer(self, body)
        )
        said = ask(f"push_folder, Path({str(tmp_path / 'learner')!r}), 'alice/moved'", token=tokens["alice"])
    assert not asked
    assert f"sends what is pushed on to {elsewhere.removeprefix('http://')}\n" in said["error"]
    assert "signature" not in said["error"]


PASSING_PUSH_FAULTS = [
    ("lose", "/api/models/{}/commit/main", {}),
    ("close", "/api/models/{}/commit/main", {}),
    ("reset", "/api/models/{}/commit/main", {}),
    ("status", "/api/models/{}/commit/main", {"status": 503, "times": 2}),
    ("status", "/api/models/{}/preupload", {"status": 500}),
    ("status", "/{}.git/info/lfs/objects/batch", {"status": 500}),
    ("lose", "/api/repos/create", {}),
    ("status", "/api/repos/create", {"status": 502}),
    ("status", "/api/validate-yaml", {"status": 500}),
    ("reset", "/lfs/", {"method": "PUT"}),
    ("status", "/api/whoami-v2", {"status": 500}),
]


def test_a_push_survives_passing_faults_with_one_commit(hub, tokens, ask_all, tmp_path):
    with contextlib.ExitStack() as stack:
        faults, calls, weights = [], [], []
        for index, (kind, path, details) in enumerate(PASSING_PUSH_FAULTS):
            folder, name = tmp_path / f"learner-{index}", f"alice/push-{index}"
            folder.mkdir()
            weights.append(os.urandom(1000))  # not on the Hub yet, or nothing would be uploaded
            (folder / "model.safetensors").write_bytes(weights[-1])
            (folder / "README.md").write_bytes(FILES["README.md"])
            faults.append(stack.enter_context(hub.fault(kind, path.format(name), **details)))
            calls.append((f"push_folder, Path({str(folder)!r}), '{name}'", {"token": tokens["alice"]}))
        answers = ask_all(calls)
    for index, (case, fault, answer) in enumerate(zip(PASSING_PUSH_FAULTS, faults, answers, strict=True)):
        assert fault.hits == case[2].get("times", 1), case
        assert answer["error"] is None, case
        assert len(hub.history(f"alice/push-{index}")) == 2, "one commit beside the initial one"
        assert hub.read_repo(f"alice/push-{index}")["model.safetensors"] == weights[index]


STORAGE_FAULTS = {
    "refused": ("status", {"status": 403}, r"it refuses the upload \(403\)"),
    "asked to wait": ("status", {"status": 503, "headers": {"Retry-After": "86400"}}, r"asks to wait 1 day \(503\)"),
    "gone": ("status", {"status": 404}, "it answers 404"),
}


def test_a_storage_that_fails_is_one_message_without_its_signed_addresses(hub, tokens, ask_all, tmp_path):
    """At every level of logging, in the message, and in the traceback."""
    with contextlib.ExitStack() as stack:
        faults, calls = [], []
        for index, (kind, details, _) in enumerate(STORAGE_FAULTS.values()):
            folder = tmp_path / f"stored-{index}"
            folder.mkdir()
            weights = os.urandom(1000)
            (folder / "model.safetensors").write_bytes(weights)
            path = f"/lfs/{hashlib.sha256(weights).hexdigest()}"
            faults.append(stack.enter_context(hub.fault(kind, path, method="PUT", times=None, **details)))
            call = f"push_folder, Path({str(folder)!r}), 'alice/stored-{index}'"
            calls.append((call, {"token": tokens["alice"], "env": {"HF_DEBUG": "1"}}))
        answers = ask_all(calls)
    for (_, _, problem), fault, answer in zip(STORAGE_FAULTS.values(), faults, answers, strict=True):
        assert fault.hits
        assert re.search(rf"model.safetensors did not reach the storage of the Hub.*: .*{problem}", answer["error"])
        assert "is unchanged; try again with: hf-free push" in answer["error"]
        assert answer["seconds"] < 30
        assert "signature=" not in answer["error"] + answer["log"]
        assert f"{hub.endpoint}/lfs/" in answer["log"], "the address itself is logged, or nothing would be shown here"


def test_a_storage_that_asks_for_parts_of_no_bytes_gives_no_usable_answer(hub, tokens, ask, tmp_path):
    weights = os.urandom(1000)
    (tmp_path / "model.safetensors").write_bytes(weights)
    action = {"href": f"{hub.endpoint}/lfs/x", "header": {"chunk_size": "0"}}
    objects = [{"oid": hashlib.sha256(weights).hexdigest(), "size": 1000, "actions": {"upload": action}}]
    body = json.dumps({"transfer": "multipart", "objects": objects}).encode()
    with hub.fault("status", "/info/lfs/objects/batch", status=200, body=body, times=None):
        answer = ask(f"push_folder, Path({str(tmp_path)!r}), 'alice/no-parts'", token=tokens["alice"])
    assert "did not reach the storage of the Hub" in answer["error"]
    assert "the Hub gives no usable answer" in answer["error"]


def test_a_refused_card_is_named(hub, tokens, ask, learner):
    (learner / "README.md").write_text("---\nbase_model: ./local\n---\n")
    answer = ask(f"push_folder, Path({str(learner)!r}), 'alice/bad-card'", token=tokens["alice"])
    assert '"base_model" with value "./local" is not valid' in answer["error"]


def test_without_xet_the_way_out_is_named(hub, tokens, ask, learner):
    answer = ask(
        f"push_folder, Path({str(learner)!r}), 'alice/xet'", token=tokens["alice"], env={"HF_HUB_DISABLE_XET": "0"}
    )
    assert "HF_HUB_DISABLE_XET=1" in answer["error"]
    made = "the repository alice/xet was made and is empty: the same push goes on with it"
    assert made in answer["error"]
    again = ask(
        f"push_folder, Path({str(learner)!r}), 'alice/xet'", token=tokens["alice"], env={"HF_HUB_DISABLE_XET": "0"}
    )
    assert made not in again["error"], "it was there already"


PUSH_REFUSALS = {
    "no token": ("'alice/new', None", None, "needs a token"),
    "read token": ("'reader/new', None", "reader", "may only read"),
    "other's namespace": ("'alice/new', None", "bob", "may not write to alice/new"),
    "wrong token": ("'alice/new', 'hf_wrong'", None, "does not know the token"),
    "public, private asked": ("'alice/public', None, private=True", "alice", "exists and is public"),
    "one segment": ("'new', None", "alice", "without an organization"),
}


def test_what_may_be_pushed_is_known_before(hub, tokens, ask):
    hub.add_repo("alice/public", FILES)
    for name, (arguments, who, problem) in PUSH_REFUSALS.items():
        answer = ask(f"check_can_push, {arguments}", token=tokens.get(who))
        assert answer["error"] is not None, name
        assert problem in answer["error"], name
        assert "to do:" in answer["error"], name
    allowed = ask("check_can_push, 'lab/new', None", "check_can_push, 'alice/public', None", token=tokens["alice"])
    assert [answer["error"] for answer in allowed] == [None, None]
    assert ("model", "lab/new") not in hub.store.repositories, "nothing is created"
    pull = ask("check_can_push, 'alice/public', None, create_pr=True", token=tokens["bob"])
    assert pull["error"] is None


def test_an_empty_folder_is_not_pushed(hub, tokens, ask, tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "none"):
        answer = ask(f"push_folder, Path({str(folder)!r}), 'alice/empty-push'", token=tokens["alice"])
        assert "is not a folder with files to push" in answer["error"]


def test_the_command_that_tries_again_asks_for_all_that_was_asked_for():
    asked = {"private": True, "commit_message": "It's new", "create_pr": True, "revision": "next"}
    words = shlex.split(push_command(Path("my learner"), "me/x", **asked))
    assert words[:4] == ["hf-free", "push", "my learner", "me/x"]
    assert set(words[4:]) == {"--private", "--create-pr", "--revision", "next", "--commit-message", "It's new"}
    usual = push_command(Path("l"), "me/x", private=False, commit_message=MESSAGE, create_pr=False, revision=None)
    assert usual == "hf-free push l me/x"


def test_why_a_large_file_is_refused_is_passed_on_short_and_escaped():
    """Of several files, each reason once; huggingface_hub puts the hashes of the files beside it."""
    lines = [f"Encountered error for file with OID {digit * 64}: `Too large\x1b[2J{'!' * 999}" for digit in "ab"]
    problem = explain_push(ValueError("LFS batch API returned errors:\n" + "\n".join(lines)), "me/large")
    assert problem is not None
    assert problem.given.startswith("the Hub refuses the large files for me/large: Too large")
    assert problem.given.isprintable()
    assert len(problem.given) < 400


def test_neither_a_classifier_nor_a_learner_takes_the_place_of_the_other(hub, tokens, ask, tmp_path):
    """The card that is there would stay, and speak of the other one."""
    learner = {"config.json": b"{}", "model.safetensors": b"x", "README.md": b"# mine"}
    hub.add_repo("alice/a-learner", learner)
    hub.add_repo("alice/a-classifier", {**learner, "classifier.json": b"{}"})
    names = {"alice/a-learner": [*learner, "classifier.json"], "alice/a-classifier": list(learner)}
    calls = [f"check_can_push, {repo!r}, None, names={sent!r}" for repo, sent in names.items()]
    others = zip(names, reversed(names.values()), strict=True)
    calls += [f"check_can_push, {repo!r}, None, names={sent!r}" for repo, sent in others]
    calls += [f"check_can_push, 'alice/a-learner', None, names={[*learner, 'hf_free.safetensors']!r}"]
    first, second, *same, over_a_teacher = ask(*calls, token=tokens["alice"])
    assert "alice/a-learner holds a model that is no learner of hf-free" in over_a_teacher["error"]
    assert "alice/a-learner holds a learner or a model" in first["error"]
    assert "alice/a-classifier holds a classifier" in second["error"]
    assert [answer["error"] for answer in same] == [None, None]


def test_a_pull_request_against_another_branch_is_refused_in_our_words():
    check_branch("dev", create_pr=False)
    check_branch(None, create_pr=True)
    with pytest.raises(HubError, match="a pull request, and the branch 'dev'"):
        check_branch("dev", create_pr=True)


def test_a_branch_is_named_by_its_own_name_and_a_pull_request_by_its_reference(hub, tokens, ask, learner):
    hub.add_repo("alice/named", {"README.md": b"by hand"})
    push = f"push_folder, Path({str(learner)!r}), 'alice/named'"
    refused, opened, more = ask(
        f"{push}, revision='refs/heads/main'",
        f"{push}, create_pr=True",
        f"{push}, revision='refs/pr/1', commit_message='more'",
        token=tokens["alice"],
    )
    assert "names no branch by its own name" in refused["error"]
    assert "write main" in refused["error"]
    assert opened["error"] is more["error"] is None
    assert sorted(hub.repository("alice/named").refs) == ["refs/heads/main", "refs/pr/1"]
