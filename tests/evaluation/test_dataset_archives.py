"""Data sets whose pictures lie in archives: what can be read of them is, the others are one message."""

from __future__ import annotations

import io
import tarfile
import zipfile

import pytest
from drawn import picture

from hf_free.errors import DatasetError
from hf_free.evaluation.dataset_archives import archives_among
from hf_free.evaluation.datasets import load_folder_images, load_labeled_images

pytest.importorskip("datasets")


def _png(value):
    buffer = io.BytesIO()
    picture(value).save(buffer, "PNG")
    return buffer.getvalue()


NAMES = ["c0/0.png", "c0/1.png", "c1/0.png", "c1/1.png"]
PICTURES = {name: _png(20 * index) for index, name in enumerate(NAMES)}
FLAT = {name.replace("/", "_"): data for name, data in PICTURES.items()}
METADATA = "file_name,label\n" + "".join(f"{name},{name[:2]}\n" for name in FLAT)


def _zip(files, above=""):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(above + name, data)
    return buffer.getvalue()


def _tar(files, mode="w"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, data in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            archive.addfile(about, io.BytesIO(data))
    return buffer.getvalue()


SETS = {
    "folders": {"train.zip": _zip(PICTURES)},
    "outside": {"train.zip": _zip(PICTURES, "../../../")},
    "absolute": {"train.zip": _zip(PICTURES, "/c/")},
    "metadata": {"train.zip": _zip({**FLAT, "metadata.csv": METADATA.encode()})},
    "classes": {"train/c0.zip": _zip(FLAT), "train/c1.zip": _zip(FLAT)},
    "empty": {"train.zip": _zip({})},
    "damaged": {"train.zip": _zip(PICTURES)[:200]},
    "tarred": {"data/train.tar.gz": _tar(PICTURES, "w:gz")},
    "other": {"train.7z": b"7z"},
}


def test_archives_on_a_hub_are_one_message_unless_they_say_the_classes(hub, run_client):
    for name, files in SETS.items():
        hub.add_repo(f"lab/{name}", files, repo_type="dataset")
    web = {"1.png": _png(1), "1.cls": b"0", "2.png": _png(2), "2.cls": b"1"}
    hub.add_repo("lab/web", {"train.tar": _tar(web)}, repo_type="dataset")
    code = """
import json
from hf_free.errors import DatasetError
from hf_free.evaluation.datasets import load_labeled_images
said = {}
for name in %r:
    try:
        said[name] = load_labeled_images(f"lab/{name}").class_names
    except DatasetError as error:
        said[name] = str(error)
print(json.dumps(said))
"""
    said = run_client(code % [*SETS, "web"]).json
    assert said.pop("web") == ["0", "1"]
    for name, text in said.items():
        assert text.startswith(f"lab/{name} holds archives ("), name
        assert "in which no pictures with their classes are found" in text
        assert f"hf download lab/{name} --repo-type dataset --local-dir FOLDER; unpack them into a folder" in text


def test_archives_on_this_computer_are_to_be_unpacked(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.zip").write_bytes(SETS["folders"]["train.zip"])
    for place in (tmp_path / "set", tmp_path / "set" / "train.zip"):
        with pytest.raises(DatasetError, match=r"(?s)holds archives \('train.zip'\).*to do:   unpack them"):
            load_labeled_images(place)
    with pytest.raises(DatasetError, match=r"(?s)holds no pictures.*to do:   unpack train\.zip"):
        load_folder_images(tmp_path / "set")


def test_archives_beside_tables_are_not_asked_for():
    assert archives_among(["a.ZIP", "README.md", "b.tar.gz", "c.png"]) == ["a.ZIP", "b.tar.gz"]
    assert archives_among(["a.zip", "data/train.parquet"]) == []
