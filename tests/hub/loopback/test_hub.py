"""The loopback Hub, asked by unmodified huggingface_hub, timm and datasets clients over HTTP."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import re
import subprocess
import sys

import pytest

from hf_free.hub.loopback.card_rules import card_errors, read_metadata
from hf_free.hub.loopback.hub import LoopbackHub

CARD = b"---\nlicense: mit\nlibrary_name: timm\ntags:\n- few-shot\nbase_model:\n- org/teacher\n---\n# A model\n"


def test_upload_list_download(hub, tokens, run_client, tmp_path):
    folder = tmp_path / "model"
    (folder / "pictures").mkdir(parents=True)
    (folder / "README.md").write_bytes(CARD)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 4)
    (folder / "pictures" / "größe #1.png").write_bytes(b"\x89PNG")
    (folder / "empty.txt").write_bytes(b"")
    result = run_client(
        f"""
import json, os
from huggingface_hub import HfApi, snapshot_download
api = HfApi()
url = api.create_repo("lab/up", exist_ok=True)
again = api.create_repo("lab/up", exist_ok=True)
first = api.upload_folder(repo_id="lab/up", folder_path={str(folder)!r})
second = api.upload_folder(repo_id="lab/up", folder_path={str(folder)!r})
path = snapshot_download("lab/up")
read = {{os.path.relpath(os.path.join(d, f), path): open(os.path.join(d, f), "rb").read().hex()
        for d, _, fs in os.walk(path) for f in fs}}
sums = api.verify_repo_checksums("lab/up")
print(json.dumps([api.whoami()["name"], str(url) == str(again), first.oid, second.oid,
    sorted(api.list_repo_files("lab/up")), read, sums.checked_count, sums.mismatches,
    [f.path for f in api.list_repo_tree("lab/up")], api.file_exists("lab/up", "nothing.txt")]))
""",
        token=tokens["alice"],
    )
    name, same_url, first, second, files, read, checked, mismatches, top, exists = result.json
    assert name == "alice"
    assert same_url
    assert re.fullmatch("[0-9a-f]{40}", first)
    assert second == first, "an unchanged folder makes no commit"
    assert len(hub.history("lab/up")) == 2
    present = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert set(files) == {*present, ".gitattributes"}
    assert {name: bytes.fromhex(text) for name, text in read.items() if name != ".gitattributes"} == present
    assert hub.read_repo("lab/up", first)["model.safetensors"] == present["model.safetensors"]
    assert (checked, mismatches) == (len(files), [])
    assert "pictures" in top
    assert "pictures/größe #1.png" not in top
    assert exists is False
    large = hub.repository("lab/up").resolve("main").files["model.safetensors"]
    assert large.sha256 == hashlib.sha256(present["model.safetensors"]).hexdigest()
    assert large.large


def test_branches_tags_commits_and_pull_requests(hub, tokens, run_client):
    hub.add_repo("alice/history", {"a.txt": b"one"})
    result = run_client(
        """
import json
from huggingface_hub import HfApi, CommitOperationAdd, CommitOperationDelete, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError
api = HfApi()
R = "alice/history"
api.create_tag(R, tag="v1"); api.create_branch(R, branch="dev/x"); api.create_branch(R, branch="dev/x", exist_ok=True)
api.upload_file(repo_id=R, path_or_fileobj=b"two", path_in_repo="a.txt", revision="dev/x")
pull = api.upload_file(repo_id=R, path_or_fileobj=b"three", path_in_repo="a.txt", create_pr=True, commit_message="PR")
read = {r: open(hf_hub_download(R, "a.txt", revision=r)).read() for r in ("main", "v1", "dev/x", pull.pr_revision)}
api.create_commit(R, [CommitOperationDelete("a.txt"), CommitOperationAdd("b/c.txt", b"c")], commit_message="move")
try:
    api.create_commit(R, [CommitOperationAdd("d", b"d")], commit_message="late", parent_commit=pull.oid)
    stale = None
except HfHubHTTPError as error:
    stale = error.response.status_code
try:
    api.model_info(R, revision="nowhere"); missing = False
except RevisionNotFoundError:
    missing = True
refs = api.list_repo_refs(R)
short = api.model_info(R, revision=pull.oid[:9]).sha == pull.oid
print(json.dumps([read, pull.pr_url, pull.pr_revision, stale, missing, sorted(b.name for b in refs.branches),
    [t.name for t in refs.tags], api.list_repo_files(R), [c.title for c in api.list_repo_commits(R)], short]))
""",
        token=tokens["alice"],
    )
    read, url, revision, stale, missing, branches, tags, files, titles, short = result.json
    assert read == {"main": "one", "v1": "one", "dev/x": "two", "refs/pr/1": "three"}
    assert url == f"{hub.endpoint}/alice/history/discussions/1"
    assert revision == "refs/pr/1"
    assert stale == 412
    assert missing
    assert branches == ["dev/x", "main"]
    assert tags == ["v1"]
    assert files == [".gitattributes", "b/c.txt"]
    assert titles == ["move", "Upload files", "initial commit"]
    assert short


def test_who_may_read_and_write(hub, tokens, run_client, tmp_path):
    hub.add_repo("alice/secret", {"a.txt": b"a"}, private=True)
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
    *(outcome(api.model_info, f"alice/{name}") for name in ("secret", "none", "gate")),
    outcome(hf_hub_download, "alice/gate", "a.txt"), outcome(api.whoami),
    outcome(api.upload_file, repo_id="alice/gate", path_or_fileobj=b"b", path_in_repo="b.txt"),
    outcome(api.auth_check, "alice/secret", write=True),
    outcome(lambda: found.extend(m.id for m in api.list_models(author="alice", search="secret"))), found,
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
        "alice": ["ok", *hidden, "ok", "ok", "ok", "ok", "ok", "ok", ["alice/secret"]],
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


def test_timm_loads_a_model_and_pushes_one(hub, tokens, run_client):
    result = run_client(
        """
import json, timm, torch
from timm.models import push_to_hf_hub
torch.manual_seed(0)
model = timm.create_model("test_resnet", num_classes=3)
push_to_hf_hub(model, "alice/pico", model_config=dict(label_names=["a", "b", "c"]), safe_serialization=True)
loaded = timm.create_model("hf-hub:alice/pico", pretrained=True)
same = all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), loaded.state_dict().values(), strict=True))
print(json.dumps([same, len(list(loaded.state_dict())), loaded.pretrained_cfg["label_names"]]))
""",
        token=tokens["alice"],
    )
    same, tensors, labels = result.json
    assert same
    assert tensors > 10
    assert labels == ["a", "b", "c"]
    assert set(hub.read_repo("alice/pico")) == {".gitattributes", "README.md", "config.json", "model.safetensors"}


def test_datasets_loads_a_parquet_repository_and_pushes_one(hub, tokens, run_client, tmp_path):
    import pyarrow
    import pyarrow.parquet

    table, buffer = pyarrow.table({"x": [1, 2, 3], "label": [0, 1, 0]}), io.BytesIO()
    pyarrow.parquet.write_table(table, buffer)
    hub.add_repo("lab/table", {"data/train-00000-of-00001.parquet": buffer.getvalue()}, repo_type="dataset")
    result = run_client(
        """
import json
from datasets import Dataset, load_dataset
data = load_dataset("lab/table", split="train")
Dataset.from_dict({"y": [5, 6]}).push_to_hub("alice/pushed", private=True)
back = load_dataset("alice/pushed", split="train")
print(json.dumps([data["x"][:], data["label"][:], back["y"][:]]))
""",
        token=tokens["alice"],
    )
    assert result.json == [[1, 2, 3], [0, 1, 0], [5, 6]]
    assert hub.repository("alice/pushed", "dataset").private


def test_ranges(hub):
    hub.add_repo("lab/ranges", {"x.bin": b"0123456789"})
    connection = http.client.HTTPConnection("127.0.0.1", hub.server.server_address[1])

    def ask(value):
        connection.request("GET", "/lab/ranges/resolve/main/x.bin", headers={"Range": value})
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers["Content-Range"]

    assert ask("bytes=4-") == (206, b"456789", "bytes 4-9/10")
    assert ask("bytes=2-3") == (206, b"23", "bytes 2-3/10")
    assert ask("bytes=-3") == (206, b"789", "bytes 7-9/10")
    assert ask("bytes=8-99") == (206, b"89", "bytes 8-9/10")
    assert ask("bytes=10-") == (416, b"", "bytes */10")
    assert ask("lines=1-") == (200, b"0123456789", None)
    connection.close()


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/x", ".git/config", "a//b", "a\\b", ""])
def test_commits_cannot_leave_the_repository(hub, tokens, path):
    hub.add_repo("alice/paths", {"a.txt": b"a"})
    before = hub.history("alice/paths")[0].id
    lines = [{"key": "header", "value": {"summary": "s"}}, {"key": "file", "value": {"path": path, "content": ""}}]
    connection = http.client.HTTPConnection("127.0.0.1", hub.server.server_address[1])
    body = "\n".join(map(json.dumps, lines))
    headers = {"Authorization": f"Bearer {tokens['alice']}"}
    connection.request("POST", "/api/models/alice/paths/commit/main", body=body, headers=headers)
    assert connection.getresponse().status == 400
    connection.close()
    assert hub.history("alice/paths")[0].id == before


def test_large_files_need_the_signed_address_and_the_right_bytes(hub, tokens):
    connection = http.client.HTTPConnection("127.0.0.1", hub.server.server_address[1])

    def ask(method, path, body, headers=None):
        connection.request(method, path, body=body, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()

    hub.add_repo("alice/lfs", {"a.txt": b"a"})
    oid = hashlib.sha256(b"never uploaded").hexdigest()
    wish = json.dumps({"operation": "upload", "objects": [{"oid": oid, "size": 14}]})
    owner = {"Authorization": f"Bearer {tokens['alice']}"}
    status, text = ask("POST", "/alice/lfs.git/info/lfs/objects/batch", wish, owner)
    address = json.loads(text)["objects"][0]["actions"]["upload"]["href"].removeprefix(hub.endpoint)
    assert status == 200
    assert ask("POST", "/alice/lfs.git/info/lfs/objects/batch", wish)[0] == 401
    assert ask("PUT", f"/lfs/{oid}", b"never uploaded")[0] == 403
    assert ask("PUT", address, b"other bytes")[0] == 400
    line = json.dumps({"key": "lfsFile", "value": {"path": "x.bin", "oid": oid, "algo": "sha256"}})
    assert ask("POST", "/api/models/alice/lfs/commit/main", line, owner)[0] == 400
    assert ask("PUT", address, b"never uploaded")[0] == 200
    assert ask("POST", "/api/models/alice/lfs/commit/main", line, owner)[0] == 200
    assert hub.read_repo("alice/lfs")["x.bin"] == b"never uploaded"
    connection.close()


RESULT = {"task": {"type": "t"}, "dataset": {"type": "a/b", "name": "n"}, "metrics": [{"type": "a", "value": 1}]}
BAD_CARDS = {
    "base_model: ./runs/a": "base_model",
    "base_model:\n- org/a\n- /home/me/model": "base_model",
    "base_model:\n- org/a\n- ../b": "base_model",
    "datasets: null": "datasets",
    "datasets:": "datasets",
    "license:\n  name: x": "license",
    "model-index: none": "model-index",
    "model-index:\n- results: []": "model-index[0].name",
    "model-index:\n- name: ''\n  results: []": "model-index[0].name",
    "model-index:\n- name: x": "model-index[0].results",
    "model-index:\n- name: x\n  results:\n  - task:\n      type: t\n": "model-index[0].results[0].dataset",
}
BAD_RESULTS = {
    "task.type": {"task": {"name": "t"}},
    "dataset.type": {"dataset": {"name": "n"}},
    "dataset.name": {"dataset": {"type": "n", "name": 3}},
    "dataset.config": {"dataset": {"type": "n", "name": "n", "config": 1.5}},
    "metrics": {"metrics": 3},
    "metrics[0].type": {"metrics": [{"value": 3}]},
    "metrics[1].value": {"metrics": [{"type": "a", "value": 3}, {"type": "a"}]},
    "source.url": {"source": {"name": "s"}},
}
for place, change in BAD_RESULTS.items():
    index = json.dumps([{"name": "x", "results": [RESULT | change]}])
    BAD_CARDS[f"model-index: {index}"] = f"model-index[0].results[0].{place}"


def test_cards_the_hub_refuses(hub, tokens, run_client):
    hub.add_repo("alice/cards", {"a.txt": b"a"})
    result = run_client(
        f"""
import json
from huggingface_hub import HfApi
said = []
for metadata in {list(BAD_CARDS)!r}:
    card = f"---\\n{{metadata}}\\n---\\n# Model".encode()
    try:
        HfApi().upload_file(repo_id="alice/cards", path_or_fileobj=card, path_in_repo="README.md")
        said.append("taken")
    except ValueError as error:
        said.append(str(error))
print(json.dumps(said))
""",
        token=tokens["alice"],
    )
    assert len(result.json) == len(BAD_CARDS)
    for said, problem in zip(result.json, BAD_CARDS.values(), strict=True):
        assert f'"{problem}"' in said
    assert "README.md" not in hub.read_repo("alice/cards")
    assert card_errors("---\njust words\n---\n") == ["Invalid YAML: cannot read the line 'just words'"]
    (said,) = card_errors("---\nmodel-index: !!python/tuple [1, 2]\n---\n")
    assert said.startswith("Invalid YAML: could not determine a constructor for the tag")


def test_cards_the_hub_takes():
    text = CARD.decode()
    assert card_errors(text) == []
    assert read_metadata(text)["base_model"] == ["org/teacher"]
    nested = f"---\nbase_model: [org/a, org/b]\nmodel-index: {json.dumps([{'name': 'x', 'results': [RESULT]}])}\n---\n"
    assert card_errors(nested) == []
    assert read_metadata("---\nlicense: yes\n---\n") == {"license": "yes"}
    assert read_metadata(nested)["base_model"] == ["org/a", "org/b"]
    assert card_errors("no metadata at all") == []


def test_environment_holds_nothing_inherited(hub, monkeypatch, tmp_path):
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HUGGING_FACE_HUB_TOKEN", "https_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "inherited")
    environment = hub.environment("hf_x", tmp_path)
    assert "inherited" not in environment.values()
    assert environment["HF_TOKEN"] == "hf_x"
    assert environment["HF_HOME"] == str(tmp_path)
    assert environment["HF_ENDPOINT"] == hub.endpoint
    assert "HF_TOKEN" not in hub.environment()


def test_serves_folders_from_the_command_line(tmp_path):
    (tmp_path / "org" / "net").mkdir(parents=True)
    (tmp_path / "org" / "net" / "config.json").write_text('{"architecture": "x"}')
    (tmp_path / "datasets" / "org" / "data").mkdir(parents=True)
    (tmp_path / "datasets" / "org" / "data" / "train.csv").write_text("a\n1\n")
    command = [sys.executable, "-m", "hf_free.hub.loopback.hub", "--root", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        port = int(re.search(r"HF_ENDPOINT=http://127\.0\.0\.1:(\d+) ", process.stdout.readline()).group(1))
        connection = http.client.HTTPConnection("127.0.0.1", port)
        bodies = []
        for path in ("/org/net/resolve/main/config.json", "/datasets/org/data/resolve/main/train.csv"):
            connection.request("GET", path)
            bodies.append(connection.getresponse().read())
        connection.close()
        assert bodies == [b'{"architecture": "x"}', b"a\n1\n"]
    finally:
        process.terminate()
        process.wait(10)


def test_the_server_needs_only_the_standard_library(tmp_path):
    code = """
import sys
import hf_free.hub.loopback.hub
roots = {name.partition(".")[0] for name in sys.modules}
print(sorted(roots & {"huggingface_hub", "yaml", "torch", "timm", "numpy", "pydantic", "httpx2", "requests"}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_two_hubs_do_not_share_anything():
    with LoopbackHub() as one, LoopbackHub() as two:
        one.add_repo("org/a", {"x": b"1"})
        assert one.endpoint != two.endpoint
        assert ("model", "org/a") not in two.store.repositories
        root = one.root
    assert not root.exists()
