"""Data sets out of Parquet, folders and a Hub, through the real `datasets` client."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
import torch
from drawn import picture
from PIL import Image

from hf_free.errors import DatasetError
from hf_free.evaluation.datasets import LabeledImages, load_folder_images, load_labeled_images
from hf_free.hub.loopback.hub import LoopbackHub

datasets = pytest.importorskip("datasets")


def rows(count=6, names=("ape", "bee", "cat")):
    return {"image": [picture(10 * i) for i in range(count)], "label": [i % len(names) for i in range(count)]}


def test_a_parquet_folder_gives_its_validation_split_where_there_is_no_test(parquet):
    data = load_labeled_images(parquet)
    assert data.split == "validation"
    assert data.class_names == ["ape", "bee"]
    assert data.labels.tolist() == [0, 1, 1]
    assert data.source == str(parquet)


def test_a_named_split_is_taken(parquet):
    data = load_labeled_images(parquet, split="train")
    assert data.class_names == ["dog", "ape", "bee"]
    assert data.labels.tolist() == [0, 1, 2, 1]
    pixels = data.at_size(12)
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (4, 3, 12, 12)
    assert pixels[2, 0].unique().tolist() == [60]


def test_an_unknown_split_says_which_there_are(parquet):
    with pytest.raises(DatasetError, match=r"no split 'test'[\s\S]*train, validation"):
        load_labeled_images(parquet, split="test")


def test_one_parquet_file_is_a_train_split(parquet):
    data = load_labeled_images(parquet / "data" / "train-00000-of-00001.parquet")
    assert (data.split, len(data)) == ("train", 4)


def test_a_folder_a_class_under_a_folder_a_split(tmp_path):
    for split in ("train", "test"):
        for name in ("zebra", "ant"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for index in range(2):
                picture(50 * index).save(folder / f"{index}.png")
    data = load_labeled_images(tmp_path)
    assert data.split == "test"
    assert data.class_names == ["ant", "zebra"]
    assert data.labels.bincount().tolist() == [2, 2]
    assert data.at_size(8, channels=1).shape == (4, 1, 8, 8)


def test_a_damaged_picture_is_named(tmp_path):
    content = {"image": [{"bytes": b"not a picture", "path": None}], "label": ["a"]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    datasets.Dataset.from_dict(content, features=features).to_parquet(tmp_path / "bad.parquet")
    with pytest.raises(DatasetError, match="picture 0 cannot be decoded"):
        load_labeled_images(tmp_path / "bad.parquet").at_size(8)


def test_a_data_set_on_a_hub_is_downloaded_once_and_a_local_one_asks_nobody(hub, run_client, parquet, tokens):
    hub.add_repo("lab/pictures", parquet, repo_type="dataset", private=True)
    code = (
        "import json; from hf_free.evaluation.datasets import load_labeled_images as load;"
        "data = load('lab/pictures');"
        "print(json.dumps([data.split, data.class_names, data.labels.tolist(), data.at_size(4)[:, 0, 0, 0].tolist()]))"
    )
    expected = ["validation", ["ape", "bee"], [0, 1, 1], [30, 60, 60]]
    assert run_client(code, token=tokens["alice"]).json == expected
    with LoopbackHub() as unasked:  # the other one serves all tests of this process
        local = f"from hf_free.evaluation.datasets import load_labeled_images as load; load({str(parquet)!r})"
        run_client(local, env={"HF_ENDPOINT": unasked.endpoint})
        assert unasked.requests == []


def test_pictures_in_memory_keep_their_size_or_are_resized():
    values = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8)
    data = LabeledImages(values, torch.tensor([0, 1, 1]), ["a", "b"])
    assert torch.equal(data.at_size(8), values)
    reference = np.asarray(Image.fromarray(values[0].permute(1, 2, 0).numpy()).resize((4, 4), Image.BILINEAR))
    ours = data.at_size(4)[0].permute(1, 2, 0).numpy()
    assert np.abs(ours.astype(int) - reference.astype(int)).max() <= 1  # Pillow rounds twice
    with pytest.raises(DatasetError, match="3 pictures and 2 labels"):
        LabeledImages(values, torch.tensor([0, 1]), ["a", "b"])


def test_a_folder_of_pictures_is_flat_or_a_folder_a_class(tmp_path):
    buffer = io.BytesIO()
    picture(5, mode="L").save(buffer, "PNG")
    for name in ("flat/b.png", "flat/a.PNG", "nested/cat/1.png", "nested/ape/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(buffer.getvalue())
    (tmp_path / "flat" / "readme.txt").write_text("no picture")
    flat = load_folder_images(tmp_path / "flat")
    assert [path.name for path in flat.paths] == ["a.PNG", "b.png"]
    assert flat.labels is None
    assert flat.images[0].size == (12, 14)
    nested = load_folder_images(tmp_path / "nested")
    assert nested.labels == ["ape", "cat"]
    (tmp_path / "nested" / "stray.png").write_bytes(buffer.getvalue())
    with_stray = load_folder_images(tmp_path / "nested")
    assert [path.name for path in with_stray.paths] == ["stray.png", "1.png", "1.png"]
    assert with_stray.labels is None, "one of the pictures has no class"
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="holds no pictures"):
        load_folder_images(tmp_path / "empty")
    with pytest.raises(DatasetError, match="is not a folder"):
        load_folder_images(tmp_path / "nowhere")


def test_a_data_set_is_shown_in_a_line_without_its_numbers():
    pictures = torch.zeros(3, 3, 8, 8, dtype=torch.uint8)
    shown = repr(LabeledImages(pictures, torch.tensor([0, 1, 1]), ["a", "b"], source="./set", split="test"))
    assert shown == "LabeledImages(3 pictures, 2 classes, source='./set', split='test')"


def test_labels_may_be_an_array_or_a_list():
    pictures = torch.zeros(3, 3, 8, 8, dtype=torch.uint8)
    for labels in ([0, 1, 1], np.array([0, 1, 1]), torch.tensor([0, 1, 1])):
        assert torch.equal(LabeledImages(pictures, labels, ["a", "b"]).labels, torch.tensor([0, 1, 1]))


# ---- configurations, here and on a Hub


def test_a_hub_that_cannot_be_reached_is_named_within_thirty_seconds(run_client):
    code = "from hf_free.evaluation.datasets import load_labeled_images; load_labeled_images('org/pictures')"
    started = time.monotonic()
    done = run_client(code, env={"HF_ENDPOINT": "http://127.0.0.1:9"}, check=False)
    assert done.returncode == 1
    assert "HubError: cannot reach the Hub at http://127.0.0.1:9 for org/pictures" in done.stderr
    assert "Retry" not in done.stderr, "datasets' own retries take longer than anyone waits"
    assert time.monotonic() - started < 30


def test_classes_that_were_perhaps_meant_to_be_one_are_said(tmp_path, caplog):
    for name in ("owl", " owl", " "):
        (tmp_path / name).mkdir()
        Image.new("RGB", (2, 2)).save(tmp_path / name / "1.png")
    assert load_labeled_images(tmp_path).class_names == [" ", " owl", "owl"]
    assert "classes whose names look alike: ' owl', 'owl'" in caplog.text
    assert "a class without a name" in caplog.text


def test_a_data_set_of_this_computer_has_no_revision(tmp_path):
    for source in (tmp_path, f"{tmp_path}:birds"):
        with pytest.raises(DatasetError, match="lies on this computer, and has no revision 'main'"):
            load_labeled_images(source, revision="main")
