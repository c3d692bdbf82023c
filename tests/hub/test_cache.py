"""The cache on disk, shared with huggingface_hub."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hub_calls import CONFIG, FILES, WEIGHTS, paths

from hf_free.hub.cache import RepositoryCache
from hf_free.hub.download import ExpectedFile


def test_the_cache_is_shared_with_huggingface_hub_both_ways(hub, ask, run_client):
    hub.add_repo("fetch/shared", FILES)
    code = (
        "from huggingface_hub import snapshot_download as s; print(s('fetch/shared', allow_patterns=['config.json']))"
    )
    theirs = run_client(code).stdout.strip()
    start = len(hub.requests)
    ours = ask("fetch_snapshot, 'fetch/shared'")["value"]["folder"]
    assert ours == theirs
    assert not [path for path in paths(hub, start, about="fetch/shared") if path.endswith("config.json")]
    start = len(hub.requests)
    download = "from huggingface_hub import hf_hub_download as d; print(d('fetch/shared', 'model.safetensors'))"
    assert run_client(download).stdout.strip() == f"{ours}/model.safetensors"
    assert paths(hub, start, "GET", about="fetch/shared") == []


def test_a_failing_hub_leaves_the_cache_with_a_warning(hub, ask):
    commit = hub.add_repo("fault/warm", FILES)
    ask("fetch_snapshot, 'fault/warm'")
    with hub.fault("reset", "/fault/warm", times=None):
        answer = ask("fetch_snapshot, 'fault/warm'")
    assert answer["value"]["commit"] == commit
    assert answer["value"]["from_cache"]
    assert f"served from the cache at commit {commit}" in answer["log"]


def test_what_others_cached_counts_as_private_offline(hub, ask, run_client):
    hub.add_repo("lab/foreign", FILES)
    run_client("from huggingface_hub import snapshot_download as s; s('lab/foreign')")
    answer = ask("fetch_snapshot, 'lab/foreign'", env={"HF_HUB_OFFLINE": "1"})
    assert answer["value"]["private"], "nobody asked, so the name must not reach a card"
    assert (Path(answer["value"]["folder"]) / "config.json").read_bytes() == CONFIG


def test_damaged_cache_is_healed_online_and_refused_offline(hub, ask):
    hub.add_repo("fault/damaged", FILES)
    weights = Path(ask("fetch_snapshot, 'fault/damaged'")["value"]["folder"]) / "model.safetensors"
    weights.resolve().write_bytes(bytes(len(WEIGHTS)))
    offline = ask("fetch_snapshot, 'fault/damaged'", env={"HF_HUB_OFFLINE": "1"})
    assert "in the cache without an intact config.json and model.safetensors" in offline["error"]
    assert ask("fetch_snapshot, 'fault/damaged'")["error"] is None
    assert weights.read_bytes() == WEIGHTS


def test_a_killed_download_goes_on_or_is_swept_and_living_ones_are_spared(tmp_path, run_client):
    code = (
        "import sys; from pathlib import Path; from hf_free.hub.cache import RepositoryCache\n"
        f"cache = RepositoryCache(Path({str(tmp_path)!r}), 'org/net')\n"
        "for digest in ('a' * 40, 'b' * 40, 'c' * 40):\n"
        "    (partial := cache.partial_file(digest)).write_bytes(digest[:4].encode()); print(partial.name)"
    )
    dead = run_client(code).stdout.split()
    cache = RepositoryCache(tmp_path, "org/net")
    living = cache.partial_file("a" * 40, ["a" * 40, "b" * 40])
    assert living.read_bytes() == b"aaaa"  # what is there of it
    theirs = living.with_name("0123.incomplete")  # huggingface_hub's, perhaps under way
    theirs.touch()
    left = {path.name for path in living.parent.iterdir()}
    assert left == {living.name, theirs.name, dead[1]}  # another file that is wanted stays, one that is not goes
    again = cache.partial_file("a" * 40)
    assert again != living
    assert not again.exists()
    assert living.exists()
    assert theirs.exists()


def test_a_kill_before_a_file_has_its_name_leaves_nothing_beside_the_others(tmp_path, monkeypatch):
    """A link of another name stayed in the snapshot, as a file that the repository does not have."""
    cache, commit, data = RepositoryCache(tmp_path, "org/name"), "0" * 40, b"x"
    expected = ExpectedFile(1, "sha256", hashlib.sha256(data).hexdigest())
    replace = Path.replace

    def killed_at_the_link(self, target):
        if Path(target).name == "model.safetensors":
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", killed_at_the_link)
    (partial := cache.partial_file(expected.digest)).write_bytes(data)
    with pytest.raises(KeyboardInterrupt):
        cache.keep(partial, commit, "model.safetensors", expected)
    assert list(cache.snapshot(commit).iterdir()) == []
    monkeypatch.setattr("hf_free.hub.cache.is_abandoned", lambda path: True)
    monkeypatch.setattr(Path, "replace", replace)
    (partial := cache.partial_file(expected.digest)).write_bytes(data)
    kept = cache.keep(partial, commit, "model.safetensors", expected)
    assert kept.read_bytes() == data
    assert [path.name for path in cache.snapshot(commit).iterdir()] == ["model.safetensors"]
    assert [path.name for path in (cache.folder / "blobs").iterdir()] == [expected.digest]
