"""Answers of another form than the Hub's: one message each, and never a raw error."""

from __future__ import annotations

import contextlib
import json

import pytest
from hub_calls import FILES
from huggingface_hub import ModelInfo

from hf_free.hub.answers import read_account, read_collection, read_repository
from hf_free.hub.session import MalformedAnswerError

GOOD = {"id": "org/net", "sha": "0" * 40, "siblings": [{"rfilename": "config.json", "size": 3, "blobId": "1" * 40}]}

BAD_INFOS = {
    "a list": [],
    "a text": "no",
    "null": None,
    "a number": 7,
    "no id": {"sha": "0" * 40},
    "id a number": {**GOOD, "id": 7},
    "sha a list": {**GOOD, "sha": ["0" * 40]},
    "siblings a text": {**GOOD, "siblings": "config.json"},
    "siblings texts": {**GOOD, "siblings": ["config.json", "model.safetensors"]},
    "siblings an object": {**GOOD, "siblings": {"rfilename": "config.json"}},
    "siblings nulls": {**GOOD, "siblings": [None]},
    "names numbers": {**GOOD, "siblings": [{"rfilename": 1}]},
    "sizes texts": {**GOOD, "siblings": [{**GOOD["siblings"][0], "size": "3"}]},
    "sizes negative": {**GOOD, "siblings": [{**GOOD["siblings"][0], "size": -3}]},
    "sizes true": {**GOOD, "siblings": [{**GOOD["siblings"][0], "size": True}]},
    "hash a path": {**GOOD, "siblings": [{**GOOD["siblings"][0], "blobId": "../../../evil"}]},
    "lfs a list": {**GOOD, "siblings": [{**GOOD["siblings"][0], "lfs": [1]}]},
    "lfs empty": {**GOOD, "siblings": [{**GOOD["siblings"][0], "lfs": {"x": 1}}]},
    "card a list": {**GOOD, "cardData": ["license"]},
    "card a text": {**GOOD, "cardData": "license: mit"},
    "tags an object": {**GOOD, "tags": {"timm": 1}},
    "tags numbers": {**GOOD, "tags": [1, 2]},
    "private a text": {**GOOD, "private": "no"},
    "gated a number": {**GOOD, "gated": 1},
    "library a list": {**GOOD, "library_name": ["timm"]},
    "downloads a text": {**GOOD, "downloads": "12"},
    "likes a float": {**GOOD, "likes": 1.5},
    "dates numbers": {**GOOD, "lastModified": 5},
    "safetensors a list": {**GOOD, "safetensors": [1]},
    "counts texts": {**GOOD, "safetensors": {"parameters": {"F32": "12"}, "total": 12}},
}
"""What a Hub may answer where the information on a model is asked for."""

BAD_ACCOUNTS = [[], "me", None, {}, {"name": 5}, {"name": "me", "orgs": "lab"}, {"name": "me", "orgs": [["lab"]]}]
BAD_ACCOUNTS += [{"name": "me", "auth": []}, {"name": "me", "auth": [1]}, {"name": "me", "auth": {"accessToken": "x"}}]


def test_a_good_answer_is_read():
    large = {"rfilename": "m", "size": 9, "lfs": {"sha256": "a" * 64, "size": 9, "pointerSize": 1}}
    card = {"license": "mit"}
    counts = {"parameters": {"F32": 2}, "total": 2}
    values = {**GOOD, "siblings": [*GOOD["siblings"], large], "cardData": card, "gated": "manual", "tags": ["timm"]}
    info = read_repository(ModelInfo(**values, downloads=4, private=False, safetensors=counts))
    assert (info.repo_id, info.commit, info.license, info.gated, info.private) == (
        "org/net",
        "0" * 40,
        "mit",
        True,
        False,
    )
    assert [(file.name, file.size, file.git_hash, file.sha256) for file in info.files or ()] == [
        ("config.json", 3, "1" * 40, None),
        ("m", 9, None, "a" * 64),
    ]
    assert (info.downloads, info.likes, info.tags, info.parameters) == (4, 0, ("timm",), {"F32": 2})


@pytest.mark.parametrize("name", [name for name, value in BAD_INFOS.items() if isinstance(value, dict)])
def test_a_field_of_another_type_is_refused(name):
    """Where huggingface_hub itself stumbles, `patiently` says the same (below)."""
    try:
        info = ModelInfo(**BAD_INFOS[name])
    except (TypeError, AttributeError, KeyError, ValueError):
        return
    with pytest.raises(MalformedAnswerError):
        read_repository(info)


@pytest.mark.parametrize("answer", BAD_ACCOUNTS, ids=repr)
def test_an_account_is_read_or_refused(answer):
    if answer == {"name": "me", "auth": []}:
        assert read_account(answer).role is None
        return
    with pytest.raises(MalformedAnswerError):
        read_account(answer)


@pytest.mark.parametrize("items", ["text", [1], ["a"], [None], [{"item_type": "model"}]], ids=repr)
def test_a_collection_is_read_or_refused(items):
    with pytest.raises(MalformedAnswerError):
        read_collection({"items": items})


def test_every_malformed_answer_ends_in_one_message(hub, tokens, ask):
    """Through the real client, over HTTP: all in one process, since none of them waits."""
    names = {name: f"odd/answer-{index}" for index, name in enumerate(BAD_INFOS)}
    with contextlib.ExitStack() as stack:
        faults = []
        for name, value in BAD_INFOS.items():
            hub.add_repo(names[name], FILES)
            body = json.dumps(value).encode()
            path = f"/api/models/{names[name]}/revision"
            faults.append(stack.enter_context(hub.fault("status", path, status=200, body=body, times=None)))
        for text, body in (("odd-page", b"<html>"), ("odd-list", b'{"error": 1}'), ("odd-items", b'["org/net", 3]')):
            path = rf"/api/models\?.*{text}"
            faults.append(stack.enter_context(hub.fault("status", path, status=200, body=body, times=None)))
        path = "/api/collections/odd/list"
        faults.append(stack.enter_context(hub.fault("status", path, status=200, body=b'["org/net"]', times=None)))
        calls = [f"fetch_snapshot, {repo_id!r}" for repo_id in names.values()]
        calls += [f"search_models, query='{text}'" for text in ("odd-page", "odd-list", "odd-items")]
        calls += ["models_of_collection, 'odd/list'"]
        answers = ask(*calls, token=tokens["alice"])
    for call, fault, answer in zip(calls, faults, answers, strict=True):
        assert fault.hits, call
        assert answer["error"] is not None, call
        assert "gives no usable answer" in answer["error"], (call, answer["error"])
        assert "to do:" in answer["error"], call


def test_malformed_answers_to_a_push_end_in_one_message(hub, tokens, ask, learner):
    places = {"preupload/": b'{"files": ["config.json"]}', "commit/main": b"[]"}
    for index, (path, body) in enumerate(places.items()):
        name = f"alice/odd-push-{index}"
        with hub.fault("status", f"/api/models/{name}/{path}", status=200, body=body, times=None) as fault:
            answer = ask(f"push_folder, Path({str(learner)!r}), '{name}'", token=tokens["alice"])
        assert fault.hits
        assert "gives no usable answer" in answer["error"]
        assert f"{learner} is unchanged" in answer["error"]
