"""The files of a data set repository, through the real client."""

from __future__ import annotations

from pathlib import Path

from hub_calls import paths

NAMES = ["README.md", "data/a.txt"]
CODE = """
import json
from hf_free.hub.dataset_files import cached_dataset, fetch_dataset, files_of_dataset
print(json.dumps({}))
"""


def test_names_and_files_of_a_data_set(hub, run_client, tokens):
    files = {"README.md": b"# Words\n", "data/a.txt": b"words"}
    hub.add_repo("lab/words", files, repo_type="dataset", private=True)
    listed = CODE.format("[sorted(files_of_dataset('lab/words').names), cached_dataset('lab/words')]")
    names, cached = run_client(listed, token=tokens["alice"]).json
    assert set(NAMES) <= set(names)
    assert cached is None, "the Hub may be asked, so the cache has no say"
    fetched = CODE.format("(fetch_dataset('lab/words') / 'data' / 'a.txt').read_text()")
    assert run_client(fetched, token=tokens["alice"]).json == "words"
    offline = CODE.format(
        "[files_of_dataset('lab/words').names, (cached_dataset('lab/words') / 'data/a.txt').read_text()]"
    )
    start = len(hub.requests)
    assert run_client(offline, env={"HF_HUB_OFFLINE": "1"}).json == [[], "words"]
    assert paths(hub, start, about="lab/words") == []


def test_what_is_not_there_has_no_files(hub, run_client):
    code = CODE.format("[files_of_dataset('lab/no-such-words').names, cached_dataset('lab/no-such-words')]")
    assert run_client(code).json == [[], None]
    assert run_client(code, env={"HF_HUB_OFFLINE": "1"}).json == [[], None]


def test_a_file_that_is_damaged_in_the_cache_is_fetched_anew(hub, run_client):
    hub.add_repo("lab/damaged", {"a.txt": b"words", "b.bin": bytes(range(256)) * 99}, repo_type="dataset")
    code = """
import json
from hf_free.errors import HubError
from hf_free.hub.dataset_files import fetch_dataset, make_intact
folder, said = fetch_dataset("lab/damaged"), []
for name in ("a.txt", "b.bin"):
    try:
        make_intact(folder / name)
    except HubError as error:
        said.append(str(error).splitlines()[0])
print(json.dumps([said, (folder / "a.txt").read_text(), len((folder / "b.bin").read_bytes()), str(folder)]))
"""
    *good, folder = run_client(code).json
    for file in (Path(folder) / "a.txt", Path(folder) / "b.bin"):
        file.resolve().write_bytes(b"other")
    said, *_ = run_client(code, env={"HF_HUB_OFFLINE": "1"}).json
    assert said == [
        f"{name} of the data set lab/damaged is damaged in the cache, and HF_HUB_OFFLINE is set"
        for name in ("a.txt", "b.bin")
    ]
    start = len(hub.requests)
    assert run_client(code).json == [*good, folder] == [[], "words", 256 * 99, folder]
    assert len(paths(hub, start, "GET", about="/resolve/")) == 2
    start = len(hub.requests)
    assert run_client(code).json[:1] == [[]]
    assert not paths(hub, start, "GET", about="/resolve/")
