"""The loopback Hub with real clients."""

from __future__ import annotations

import hashlib
import io
import re

from cards import CARD

from hf_free.hub.loopback.hub import LoopbackHub


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


def test_environment_holds_nothing_inherited(hub, monkeypatch, tmp_path):
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HUGGING_FACE_HUB_TOKEN", "https_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "inherited")
    environment = hub.environment("hf_x", tmp_path)
    assert "inherited" not in environment.values()
    assert environment["HF_TOKEN"] == "hf_x"
    assert environment["HF_HOME"] == str(tmp_path)
    assert environment["HF_ENDPOINT"] == hub.endpoint
    assert "HF_TOKEN" not in hub.environment()


def test_two_hubs_do_not_share_anything():
    with LoopbackHub() as one, LoopbackHub() as two:
        one.add_repo("org/a", {"x": b"1"})
        assert one.endpoint != two.endpoint
        assert ("model", "org/a") not in two.store.repositories
        root = one.root
    assert not root.exists()
