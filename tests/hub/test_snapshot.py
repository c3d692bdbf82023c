"""Files of one commit: named, pinned, cached, offline."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import shutil
import urllib.request
from pathlib import Path

import pytest
from hub_calls import FILES, partial_files, paths

from hf_free.errors import HubError
from hf_free.hub.snapshot import local_snapshot


def test_only_the_named_files_of_one_commit(hub, ask, tmp_path):
    extra = {"pytorch_model.bin": b"\x80\x04pickle", "extra.safetensors": b"x"}
    old = hub.add_repo("fetch/plain", {**FILES, **extra})
    new = hub.add_repo("fetch/plain", {"config.json": b"{}"})
    start = len(hub.requests)
    by_commit, latest = ask(
        f"fetch_snapshot, 'fetch/plain', revision='{old}', optional=('README.md', 'none.txt')",
        "fetch_snapshot, 'fetch/plain'",
    )
    value = by_commit["value"]
    folder = Path(value["folder"])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    assert value["sha256"] == {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    assert (value["repo_id"], value["commit"], value["license"]) == ("fetch/plain", old, "mit")
    assert (value["private"], value["gated"], value["from_cache"]) == (False, False, False)
    assert latest["value"]["commit"] == new
    assert (Path(latest["value"]["folder"]) / "config.json").read_bytes() == b"{}"
    fetched = [path for path in paths(hub, start, about="fetch/plain") if "/resolve/" in path]
    assert all(f"/resolve/{old}/" in path or f"/resolve/{new}/" in path for path in fetched), "never by branch name"
    assert not [path for path in fetched if "pytorch_model" in path or "extra" in path]
    assert not partial_files(tmp_path)


def test_branches_tags_and_pull_requests(hub, ask):
    hub.add_repo("fetch/branches", FILES)
    other = hub.add_repo("fetch/branches", {"config.json": b"{}"}, branch="dev/x")
    answer = ask("fetch_snapshot, 'fetch/branches', revision='dev/x'")
    assert answer["value"]["commit"] == other


def test_cached_files_are_not_fetched_again_and_a_commit_needs_no_request(hub, ask):
    commit = hub.add_repo("fetch/warm", FILES)
    ask("fetch_snapshot, 'fetch/warm'")
    start = len(hub.requests)
    ask("fetch_snapshot, 'fetch/warm'")
    assert len(paths(hub, start, about="fetch/warm")) == 1, "the branch is resolved and nothing fetched"
    start = len(hub.requests)
    answer = ask(f"fetch_snapshot, 'fetch/warm', revision='{commit}'")
    assert paths(hub, start, about="fetch/warm") == []
    assert answer["value"]["license"] == "mit"


def test_private_and_gated_are_told(hub, tokens, ask):
    hub.add_repo("alice/fetch-private", FILES, private=True)
    hub.add_repo("alice/fetch-gated", FILES, gated=True, granted=("bob",))
    private, gated = ask(
        "fetch_snapshot, 'alice/fetch-private'", "fetch_snapshot, 'alice/fetch-gated'", token=tokens["alice"]
    )
    assert private["value"]["private"]
    assert gated["value"]["gated"]
    granted = ask("fetch_snapshot, 'alice/fetch-gated', token='hf_bob_secret'")
    assert granted["value"]["gated"]


def test_offline_serves_the_cache_and_says_so(hub, tokens, ask):
    commit = hub.add_repo("alice/offline", FILES, private=True)
    ask("fetch_snapshot, 'alice/offline'", token=tokens["alice"])
    start = len(hub.requests)
    calls = ("fetch_snapshot, 'alice/offline'", "fetch_snapshot, 'org/other'", "push_folder, '.', 'alice/offline'")
    cached, missing, push = ask(*calls, token=tokens["alice"], env={"HF_HUB_OFFLINE": "1"})
    assert (cached["value"]["commit"], cached["value"]["license"]) == (commit, "mit")
    assert cached["value"]["private"], "visibility is remembered"
    assert cached["value"]["from_cache"]
    assert f"offline: alice/offline@main served from the cache at commit {commit}" in cached["log"]
    assert "org/other@main is not in the cache, and HF_HUB_OFFLINE is set" in missing["error"]
    assert "leave --offline out and unset HF_HUB_OFFLINE, so that they are fetched" in missing["error"]
    assert "inspect" not in missing["error"], "which fetches a teacher's files alone"
    assert "HF_HUB_OFFLINE is set" in push["error"]
    assert not [path for name in ("alice/offline", "org/other", "whoami") for path in paths(hub, start, about=name)]
    local = ask("fetch_snapshot, 'alice/offline', local_files_only=True")
    assert local["value"]["commit"] == commit


def test_a_file_cached_by_another_client_has_the_license_of_its_card(hub, ask, run_client):
    hub.add_repo("fetch/other-client", FILES)
    run_client("from huggingface_hub import snapshot_download as get; get('fetch/other-client')")
    answer = ask("fetch_snapshot, 'fetch/other-client'", env={"HF_HUB_OFFLINE": "1"})
    assert answer["value"]["license"] == "mit"
    assert answer["value"]["private"], "nobody knows, so its name is not published"


def test_a_cache_that_cannot_be_written_serves_what_it_has(hub, ask, tmp_path):
    """With files in the way, which stop an administrator too; access rights do not."""
    hub.add_repo("fetch/read-only", FILES)
    assert ask("fetch_snapshot, 'fetch/read-only'")["error"] is None
    folder = tmp_path / "home" / "hub" / "models--fetch--read-only"
    shutil.rmtree(folder / "hf_free")
    (folder / "hf_free").write_text("in the way")
    answer = ask("fetch_snapshot, 'fetch/read-only'")
    assert answer["error"] is None
    assert "cannot note in the cache what the Hub says of fetch/read-only" in answer["log"]
    shutil.rmtree(folder / "blobs")
    (folder / "blobs").write_text("in the way")
    refused = ask("fetch_snapshot, 'fetch/read-only'")
    assert "cannot keep the files of fetch/read-only" in refused["error"]
    assert "--cache-dir" in refused["error"]


FAILING = """
import errno, os, pathlib
real = pathlib.Path.open
def failing(path, mode="r", *arguments, **named):
    if set(mode) & set("xw+") and "models--" in str(path):
        number = int(os.environ["HF_TEST_ERRNO"])
        raise OSError(number, os.strerror(number))  # as a write says it, without the file
    return real(path, mode, *arguments, **named)
pathlib.Path.open = failing
"""


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC])
def test_a_cache_that_takes_nothing_more_serves_what_it_has_and_names_what_it_lacks(hub, ask, tmp_path, number):
    hub.add_repo("fetch/full", FILES)
    (tmp_path / "failing").mkdir()
    (tmp_path / "failing" / "sitecustomize.py").write_text(FAILING)
    env = {"PYTHONPATH": str(tmp_path / "failing"), "HF_TEST_ERRNO": str(number)}
    refused = ask("fetch_snapshot, 'fetch/full'", env=env)["error"]
    assert re.search(r"cannot keep the files of fetch/full: cannot write \S+ in \S+/snapshots/[0-9a-f]{40}: ", refused)
    assert ("are needed; " in refused) is (number == errno.ENOSPC)
    assert ask("fetch_snapshot, 'fetch/full'")["error"] is None
    shutil.rmtree(tmp_path / "home" / "hub" / "models--fetch--full" / "hf_free")
    answer = ask("fetch_snapshot, 'fetch/full'", env=env)
    assert answer["error"] is None
    assert "cannot note in the cache what the Hub says of fetch/full" in answer["log"]


def test_a_cache_without_links_holds_copies(hub, ask, monkeypatch, tmp_path):
    hub.add_repo("fetch/copies", FILES)
    (tmp_path / "no_links").mkdir()
    refuse = "import os\n\ndef refuse(*a, **k):\n    raise OSError('no links here')\n\nos.symlink = refuse\n"
    (tmp_path / "no_links" / "sitecustomize.py").write_text(refuse)
    env = {"PYTHONPATH": str(tmp_path / "no_links")}
    first, second = (ask("fetch_snapshot, 'fetch/copies'", env=env) for _ in range(2))
    path = Path(first["value"]["folder"]) / "model.safetensors"
    assert not path.is_symlink()
    assert path.read_bytes() == FILES["model.safetensors"]
    assert second["error"] is None
    offline = ask("fetch_snapshot, 'fetch/copies'", env={"HF_HUB_OFFLINE": "1"})
    assert offline["value"]["sha256"] == first["value"]["sha256"]


def test_local_snapshot(tmp_path):
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    snapshot = local_snapshot(tmp_path)
    assert (snapshot.repo_id, snapshot.commit, snapshot.license) == (None, None, "mit")
    assert snapshot.sha256 == {name: hashlib.sha256(FILES[name]).hexdigest() for name in list(FILES)[:2]}
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(HubError, match="only pickled weights"):
        local_snapshot(tmp_path)
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(HubError, match=r"has no model\.safetensors"):
        local_snapshot(tmp_path)
    with pytest.raises(HubError, match="is not a folder"):
        local_snapshot(tmp_path / "none")


def test_a_file_that_no_disk_holds_is_refused_before_it_is_fetched(hub, ask):
    hub.add_repo("fault/huge", FILES)
    with urllib.request.urlopen(f"{hub.endpoint}/api/models/fault/huge/revision/main?blobs=true") as answer:
        listing = json.load(answer)
    for entry in listing["siblings"]:
        entry["size"] = 2**62
        entry.get("lfs", {})["size"] = 2**62
    start = len(hub.requests)
    body = json.dumps(listing).encode()
    with hub.fault("status", "/api/models/fault/huge", status=200, body=body, times=None):
        error = ask("fetch_snapshot, 'fault/huge'")["error"]
    assert re.match(
        r"the Hub announces 4.194e\+06 TiB for config.json of fault/huge, and the disk of the cache", error
    )
    assert not [path for path in paths(hub, start) if "/resolve/" in path]
