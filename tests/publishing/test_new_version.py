"""`new_version` in a predecessor's card: one line of it, read back by huggingface_hub, and who may have it written."""

from __future__ import annotations

import json

import pytest
import yaml

from hf_free.errors import HubError
from hf_free.provenance.learner_record import LearnerRecord
from hf_free.publishing.card import write_card
from hf_free.publishing.new_version import predecessor_on_hub, with_new_version

CARD = "---\n# by hand\nlicense:   mit\ntags: [b, 'a']\n---\n\n# First\n\n---\nnew_version: in the text\n---\n"


def test_all_but_the_line_stays_to_the_byte():
    line = "new_version: me/second\n"
    assert with_new_version(CARD, "me/second") == CARD.replace("'a']\n", f"'a']\n{line}")
    older = CARD.replace("license", "new_version: 'me/other'  # so far\nlicense")
    assert with_new_version(older, "me/second") == CARD.replace("license", f"{line}license")
    assert with_new_version(with_new_version(CARD, "me/second"), "me/second") == with_new_version(CARD, "me/second")
    windows = "\ufeff---\r\nlicense: mit\r\n---\r\ntext\r\n"
    assert with_new_version(windows, "me/second") == windows.replace("mit\r\n", "mit\r\nnew_version: me/second\r\n")
    assert with_new_version("# Only text\n", "me/second") == f"---\n{line}---\n# Only text\n"


def test_metadata_that_a_line_would_not_change_as_asked_are_refused():
    blocks = (
        "new_version:\n- me/a\n- me/b\n",
        "new_version: >\n  me/a\nlicense: mit\n",
        "- a list\n",
        "a: [b\n",
        "a: 2020-13-45\n",
    )
    for block in blocks:
        with pytest.raises((ValueError, yaml.YAMLError)):
            with_new_version(f"---\n{block}---\n", "me/second")


def test_a_predecessor_is_a_learner_on_the_hub():
    assert predecessor_on_hub("me/first@main") == "me/first"
    for start in (None, "", "timm:resnet18.a1_in1k"):
        with pytest.raises(HubError, match="continues no other one"):
            predecessor_on_hub(start)
    for start in ("/home/me/runs/first", "a learner on the Hub"):
        with pytest.raises(HubError, match="names no repository"):
            predecessor_on_hub(start)


CODE = """
import json
from pathlib import Path
from huggingface_hub import ModelCard
from hf_free.errors import HubError
from hf_free.publishing.push import plan_new_version_of, push_saved

folder, answers = Path({folder!r}), {{"refused": []}}
def refused(call, *words, **options):
    try:
        call(folder, *words, **options)
    except HubError as error:
        answers["refused"].append(str(error))
def pushed(folder, repo_id, **options):
    return push_saved(folder, repo_id, new_version=plan_new_version_of(folder, repo_id, **options), **options)
def start_from(source):
    record = {{"config": {{"learner": {{"init_from": source}}}}}}
    (folder.parent / "record.json").write_text(json.dumps(record))

start_from("alice/nv-first")
answers["said"] = plan_new_version_of(folder, "alice/nv-second").said
answers["before"] = ModelCard.load("alice/nv-first").data.to_dict()
for _ in range(2):
    answers["url"] = pushed(folder, "alice/nv-second")
card = ModelCard.load("alice/nv-first")
answers["data"], answers["text"] = card.data.to_dict(), card.text
refused(pushed, "alice/nv-third", private=True)
refused(pushed, "alice/nv-hidden")
refused(pushed, "alice/nv-third", revision="draft")
refused(pushed, "alice/nv-first")
for source in ("bob/nv-theirs", "alice/nv-nowhere", "alice/nv-odd"):
    start_from(source)
    refused(pushed, "alice/nv-third")
start_from("bob/nv-theirs")
pushed(folder, "alice/nv-third", create_pr=True)
print(json.dumps(answers))
"""


def test_the_predecessor_names_the_new_version_and_nothing_else_changes(hub, tokens, run_client, tmp_path):
    folder = tmp_path / "run" / "learner"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"hf_free": {"teachers": []}}))
    (folder / "model.safetensors").write_bytes(b"no weights")
    write_card(folder, LearnerRecord())
    first = {"README.md": CARD.encode(), "config.json": b"{}"}
    hub.add_repo("alice/nv-first", first)
    hub.add_repo("alice/nv-hidden", first, private=True)
    hub.add_repo("bob/nv-theirs", first)
    hub.add_repo("alice/nv-odd", {"README.md": b"---\nnew_version:\n- a/b\n---\n"})
    answers = run_client(CODE.format(folder=str(folder)), token=tokens["alice"]).json
    assert answers["said"] == "new_version: alice/nv-second in the card of alice/nv-first"
    assert answers["url"].endswith("/alice/nv-second")
    assert "new_version" not in answers["before"], "a plan changes nothing"
    assert answers["data"] == {"license": "mit", "tags": ["b", "a"], "new_version": "alice/nv-second"}
    assert answers["text"] == CARD.split("---\n", 2)[2]
    assert hub.read_repo("alice/nv-first")["README.md"].decode() == with_new_version(CARD, "alice/nv-second")
    titles = [entry.title for entry in hub.history("alice/nv-first")]
    assert titles.count("New version: alice/nv-second") == 1, "the second push makes no commit"
    private, hidden, branch, itself, theirs, nowhere, odd = answers["refused"]
    assert "alice/nv-first is public but alice/nv-third is private" in private
    assert "alice/nv-first is public but alice/nv-hidden is private" in hidden
    assert "--revision draft" in branch
    assert "is the predecessor itself" in itself
    assert "may not write to bob/nv-theirs" in theirs
    assert "alice/nv-nowhere does not exist" in nowhere
    assert "card of alice/nv-odd cannot be changed safely" in odd
    assert hub.read_repo("bob/nv-theirs")["README.md"] == CARD.encode(), "a pull request changes no main branch"
