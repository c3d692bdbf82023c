"""Listings, pages, and who may read and write."""

from __future__ import annotations

import http.client
import json
import re

from cards import CARD


def test_who_may_read_and_write(hub, tokens, run_client, tmp_path):
    hub.add_repo("alice/kept-back", {"a.txt": b"a"}, private=True)
    hub.add_repo("alice/gate", {"a.txt": b"a"}, gated=True, granted=("reader",))
    code = """
import json
from huggingface_hub import HfApi, hf_hub_download
def outcome(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
        return "ok"
    except Exception as error:
        response = getattr(error, "response", None)
        return f"{type(error).__name__} {response.status_code if response is not None else ''}".strip()
api, found = HfApi(), []
print(json.dumps([
    *(outcome(api.model_info, f"alice/{name}") for name in ("kept-back", "none", "gate")),
    outcome(hf_hub_download, "alice/gate", "a.txt"), outcome(api.whoami),
    outcome(api.upload_file, repo_id="alice/gate", path_or_fileobj=b"b", path_in_repo="b.txt"),
    outcome(api.auth_check, "alice/kept-back", write=True),
    outcome(lambda: found.extend(m.id for m in api.list_models(author="alice", search="kept-back"))), found,
]))
"""
    # A cache each: clients serve a cached file without a word where the Hub refuses it.
    outcomes = {
        who: run_client(code, token=token, home=tmp_path / who).json
        for who, token in [*tokens.items(), ("none", None)]
    }
    wrong = run_client(code, token="hf_wrong").json
    missing, gate, refused = "RepositoryNotFoundError", "GatedRepoError", "HfHubHTTPError"
    hidden, shut = [f"{missing} 404"], [f"{gate} 403"]
    assert outcomes == {
        "alice": ["ok", *hidden, "ok", "ok", "ok", "ok", "ok", "ok", ["alice/kept-back"]],
        "bob": [*hidden, *hidden, "ok", *shut, "ok", *shut, *hidden, "ok", []],
        "reader": [*hidden, *hidden, "ok", "ok", "ok", f"{refused} 403", *hidden, "ok", []],
        "none": [
            *(f"{missing} 401", f"{missing} 401", "ok", f"{gate} 401", "LocalTokenNotFoundError"),
            *(f"{gate} 401", f"{missing} 401", "ok", []),
        ],
    }
    assert {*wrong[:4], wrong[5], wrong[7]} == {f"{refused} 401"}


def test_listing_by_search_author_and_tags(hub, run_client):
    for index in range(5):
        hub.add_repo(f"lister/net-{index}", {"README.md": CARD})
    hub.add_repo("lister/other", {"README.md": b"---\nlibrary_name: transformers\n---\n"})
    result = run_client(
        """
import json
from huggingface_hub import HfApi
api = HfApi()
ids = lambda **k: [m.id for m in api.list_models(author="lister", **k)]
info = api.model_info("lister/net-0")
print(json.dumps([ids(), ids(filter=["timm", "few-shot"]), ids(search="NET-3"), ids(limit=2),
    ids(filter="license:mit"), info.card_data.license, info.card_data.base_model, info.tags]))
"""
    )
    nets = [f"lister/net-{index}" for index in range(5)]
    everything, tagged, searched, limited, licensed, license_name, base, tags = result.json
    assert everything == [*nets, "lister/other"]
    assert tagged == licensed == nets
    assert searched == ["lister/net-3"]
    assert limited == nets[:2]
    assert (license_name, base) == ("mit", ["org/teacher"])
    assert tags == ["few-shot", "timm", "license:mit", "base_model:org/teacher"]


def test_pages_of_a_listing_are_followed(hub):
    for index in range(5):
        hub.add_repo(f"pager/net-{index}", {"a": b"a"})
    connection = http.client.HTTPConnection("127.0.0.1", hub.server.server_address[1])
    path, seen = "/api/models?author=pager&limit=2", []
    while path:
        connection.request("GET", path)
        answer = connection.getresponse()
        seen += [entry["id"] for entry in json.loads(answer.read())]
        link = re.fullmatch(r'<http://[^/]+(/.*)>; rel="next"', answer.headers["Link"] or "")
        path = link.group(1) if link else None
    connection.close()
    assert seen == [f"pager/net-{index}" for index in range(5)]
