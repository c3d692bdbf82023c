"""Data sets out of Parquet, folders and a Hub, through the real `datasets` client."""

from __future__ import annotations

import io
import logging
import time

import numpy as np
import pytest
import torch
from PIL import Image

from hf_free.errors import DatasetError
from hf_free.evaluation.datasets import LabelledImages, load_folder_images, load_labelled_images

datasets = pytest.importorskip("datasets")


def picture(value, size=12, mode="RGB"):
    return Image.new(mode, (size, size + 2), value if mode != "RGB" else (value, 255 - value, 7))


def rows(count=6, names=("ape", "bee", "cat")):
    return {"image": [picture(10 * i) for i in range(count)], "label": [i % len(names) for i in range(count)]}


@pytest.fixture
def parquet(tmp_path):
    """A folder of two splits; the classes' names include one that never occurs."""
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["dog", "ape", "bee"])}
    )
    folder = tmp_path / "set" / "data"
    folder.mkdir(parents=True)
    for split, labels in (("train", [0, 1, 2, 1]), ("validation", [1, 2, 2])):
        content = {"image": [picture(30 * label) for label in labels], "label": labels}
        datasets.Dataset.from_dict(content, features=features).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder.parent


def test_a_parquet_folder_gives_its_validation_split_where_there_is_no_test(parquet):
    data = load_labelled_images(parquet)
    assert data.split == "validation"
    assert data.class_names == ["ape", "bee"]
    assert data.labels.tolist() == [0, 1, 1]
    assert data.source == str(parquet)


def test_a_card_without_metadata_is_not_remarked_on(parquet, caplog):
    (parquet / "README.md").write_text("only words")
    logger = logging.getLogger("huggingface_hub.repocard")
    before = logger.level
    logger.addHandler(caplog.handler)  # huggingface_hub's loggers do not pass their records on
    try:
        load_labelled_images(parquet)
        logger.warning("seen")
    finally:
        logger.removeHandler(caplog.handler)
    assert {record.message for record in caplog.records} == {"seen"}
    assert logger.level == before


def test_a_named_split_is_taken(parquet):
    data = load_labelled_images(parquet, split="train")
    assert data.class_names == ["dog", "ape", "bee"]
    assert data.labels.tolist() == [0, 1, 2, 1]
    pixels = data.at_size(12)
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (4, 3, 12, 12)
    assert pixels[2, 0].unique().tolist() == [60]


def test_an_unknown_split_says_which_there_are(parquet):
    with pytest.raises(DatasetError, match=r"no split 'test'[\s\S]*train, validation"):
        load_labelled_images(parquet, split="test")


def test_one_parquet_file_is_a_train_split(parquet):
    data = load_labelled_images(parquet / "data" / "train-00000-of-00001.parquet")
    assert (data.split, len(data)) == ("train", 4)


def test_a_folder_a_class_under_a_folder_a_split(tmp_path):
    for split in ("train", "test"):
        for name in ("zebra", "ant"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for index in range(2):
                picture(50 * index).save(folder / f"{index}.png")
    data = load_labelled_images(tmp_path)
    assert data.split == "test"
    assert data.class_names == ["ant", "zebra"]
    assert data.labels.bincount().tolist() == [2, 2]
    assert data.at_size(8, channels=1).shape == (4, 1, 8, 8)


@pytest.mark.parametrize(
    ("labels", "kind"), [(["b", "a", "b"], "string"), ([7, 3, 7], "int64"), ([True, False, True], "bool")]
)
def test_string_integer_and_truth_value_labels(tmp_path, labels, kind):
    content = {"picture": [picture(i) for i in range(3)], "category": labels}
    features = datasets.Features({"picture": datasets.Image(), "category": datasets.Value(kind)})
    path = tmp_path / "set.parquet"
    datasets.Dataset.from_dict(content, features=features).to_parquet(path)
    data = load_labelled_images(path)
    assert data.class_names == [str(value) for value in sorted(set(labels))]
    assert data.labels.tolist() == [1, 0, 1]


@pytest.fixture
def two_labels(tmp_path):
    """Two columns of classes and two of pictures: nothing can be guessed."""
    names = datasets.ClassLabel(names=["x", "y"])
    features = datasets.Features(
        {
            "left": datasets.Image(),
            "right": datasets.Image(),
            "color": names,
            "shape": names,
            "text": datasets.Value("string"),
        }
    )
    content = {
        "left": [picture(1), picture(2)],
        "right": [picture(3), picture(4)],
        "color": [0, 1],
        "shape": [1, 1],
        "text": ["a", "b"],
    }
    path = tmp_path / "two.parquet"
    datasets.Dataset.from_dict(content, features=features).to_parquet(path)
    return path


def test_columns_that_cannot_be_told_apart_are_listed(two_labels):
    with pytest.raises(
        DatasetError, match=r"several columns that could be the image: left \(Image\)[\s\S]*--image-column"
    ):
        load_labelled_images(two_labels)
    with pytest.raises(DatasetError, match=r"several columns that could be the label[\s\S]*--label-column"):
        load_labelled_images(two_labels, image_column="left")


def test_named_columns_are_taken(two_labels):
    data = load_labelled_images(two_labels, image_column="right", label_column="text")
    assert data.class_names == ["a", "b"]
    assert data.at_size(12)[:, 0, 0, 0].tolist() == [3, 4]


def test_a_column_that_is_not_there_says_which_are(two_labels):
    with pytest.raises(DatasetError, match=r"no column 'img'[\s\S]*right \(Image\), color \(ClassLabel\)"):
        load_labelled_images(two_labels, image_column="img")


def test_missing_labels_are_refused(tmp_path):
    (tmp_path / "set").mkdir()
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["x", "y"])})
    content = {"image": [picture(1), picture(2)], "label": [-1, -1]}
    datasets.Dataset.from_dict(content, features=features).to_parquet(tmp_path / "blind.parquet")
    with pytest.raises(DatasetError, match=r"2 of 2 pictures have no label[\s\S]*choose another data set"):
        load_labelled_images(tmp_path / "blind.parquet")  # it has no other split
    datasets.Dataset.from_dict(content, features=features).to_parquet(tmp_path / "set" / "test.parquet")
    datasets.Dataset.from_dict(content | {"label": [0, 1]}, features=features).to_parquet(
        tmp_path / "set/train.parquet"
    )
    with pytest.raises(DatasetError, match=r"2 of 2 pictures have no label[\s\S]*another split with --split"):
        load_labelled_images(tmp_path / "set")


def test_labels_that_are_no_classes_are_refused(tmp_path):
    content = {"image": [picture(1)], "label": [0.5]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("float64")})
    datasets.Dataset.from_dict(content, features=features).to_parquet(tmp_path / "real.parquet")
    with pytest.raises(DatasetError, match=r"'0.5' of type float[\s\S]*--label-column"):
        load_labelled_images(tmp_path / "real.parquet")


def test_paths_without_data_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(DatasetError, match="holds no data"):
        load_labelled_images(tmp_path)
    with pytest.raises(DatasetError, match="is no Parquet file"):
        load_labelled_images(tmp_path / "notes.txt")
    with pytest.raises(DatasetError, match="there is no file or folder"):
        load_labelled_images(tmp_path / "gone" / "set")


def test_a_damaged_picture_is_named(tmp_path):
    content = {"image": [{"bytes": b"not a picture", "path": None}], "label": ["a"]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    datasets.Dataset.from_dict(content, features=features).to_parquet(tmp_path / "bad.parquet")
    with pytest.raises(DatasetError, match="picture 0 cannot be decoded"):
        load_labelled_images(tmp_path / "bad.parquet").at_size(8)


def test_a_data_set_on_a_hub_is_downloaded_once_and_a_local_one_asks_nobody(hub, run_client, parquet, tokens):
    hub.add_repo("lab/pictures", parquet, repo_type="dataset", private=True)
    code = (
        "import json; from hf_free.evaluation.datasets import load_labelled_images as load;"
        "data = load('lab/pictures');"
        "print(json.dumps([data.split, data.class_names, data.labels.tolist(), data.at_size(4)[:, 0, 0, 0].tolist()]))"
    )
    expected = ["validation", ["ape", "bee"], [0, 1, 1], [30, 60, 60]]
    assert run_client(code, token=tokens["alice"]).json == expected
    before = len(hub.requests)
    run_client(f"from hf_free.evaluation.datasets import load_labelled_images as load; load({str(parquet)!r})")
    assert len(hub.requests) == before


def test_a_private_data_set_without_a_token_is_not_to_be_had(hub, run_client, parquet):
    hub.add_repo("lab/secret", parquet, repo_type="dataset", private=True)
    result = run_client(
        "from hf_free.evaluation.datasets import load_labelled_images as load; load('lab/secret')", check=False
    )
    assert result.returncode != 0
    assert "DatasetError: data set 'lab/secret' is not to be had" in result.stderr
    assert "hf auth login" in result.stderr


def test_pictures_in_memory_keep_their_size_or_are_resized():
    values = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8)
    data = LabelledImages(values, torch.tensor([0, 1, 1]), ["a", "b"])
    assert torch.equal(data.at_size(8), values)
    reference = np.asarray(Image.fromarray(values[0].permute(1, 2, 0).numpy()).resize((4, 4), Image.BILINEAR))
    ours = data.at_size(4)[0].permute(1, 2, 0).numpy()
    assert np.abs(ours.astype(int) - reference.astype(int)).max() <= 1  # Pillow rounds twice
    with pytest.raises(DatasetError, match="3 pictures and 2 labels"):
        LabelledImages(values, torch.tensor([0, 1]), ["a", "b"])


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


def test_labels_may_be_an_array_or_a_list():
    pictures = torch.zeros(3, 3, 8, 8, dtype=torch.uint8)
    for labels in ([0, 1, 1], np.array([0, 1, 1]), torch.tensor([0, 1, 1])):
        assert torch.equal(LabelledImages(pictures, labels, ["a", "b"]).labels, torch.tensor([0, 1, 1]))


# ---- configurations, here and on a Hub


def parquet_set(folder, split, names, value):
    folder.mkdir(parents=True, exist_ok=True)
    content = {"image": [picture(value + i) for i in range(4)], "label": [names[i % 2] for i in range(4)]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    datasets.Dataset.from_dict(content, features=features).to_parquet(folder / f"{split}.parquet")


CONFIGURATIONS = """---
configs:
- config_name: flying
  data_files: birds/*.parquet
- config_name: '1.10'
  data_files: [{split: train, path: cars/train.parquet}, {split: test, path: cars/test.parquet}]
---
# Two sets
"""


def test_configurations_are_folders_or_what_a_card_lists_and_can_be_named(tmp_path, hub, run_client):
    root = tmp_path / "two"
    parquet_set(root / "birds", "train", ("owl", "wren"), 10)
    parquet_set(root / "cars", "train", ("bus", "van"), 20)
    parquet_set(root / "cars", "test", ("bus", "van"), 30)
    with pytest.raises(DatasetError, match=r"2 data sets[\s\S]*one of birds, cars\n[\s\S]*two:birds"):
        load_labelled_images(root)
    assert load_labelled_images(f"{root}:birds").class_names == ["owl", "wren"]
    cars = load_labelled_images(f"{root}:cars")
    assert (cars.class_names, cars.split) == (["bus", "van"], "test")
    with pytest.raises(DatasetError, match=r"no configuration 'fish'\n  allowed: birds, cars\n"):
        load_labelled_images(f"{root}:fish")

    (root / "README.md").write_text(CONFIGURATIONS)
    with pytest.raises(DatasetError, match=r"one of flying, 1\.10\n[\s\S]*two:flying"):
        load_labelled_images(root)
    assert load_labelled_images(f"{root}:flying").class_names == ["owl", "wren"]
    assert load_labelled_images(f"{root}:1.10").class_names == ["bus", "van"]

    (root / "README.md").write_text(CONFIGURATIONS.replace("flying", "birds").replace("'1.10'", "cars"))
    hub.add_repo("lab/two-sets", root, repo_type="dataset")
    code = """
from hf_free.evaluation.datasets import load_labelled_images as load
from hf_free.errors import DatasetError
for name in ("lab/two-sets", "lab/two-sets:fish", "lab/two-sets:birds"):
    try:
        print(load(name).class_names)
    except DatasetError as error:
        print(error.given, "|", error.allowed, "|", error.action)
"""
    several, unknown, birds = run_client(code).stdout.splitlines()[-3:]
    assert "2 data sets" in several
    assert "| one of birds, cars |" in several
    assert several.endswith("lab/two-sets:birds")
    assert "no configuration 'fish'" in unknown
    assert "| one of birds, cars |" in unknown
    assert birds == "['owl', 'wren']"


def test_parquet_files_that_name_no_split_are_all_read_or_said(tmp_path, caplog):
    for name in ("north", "south"):
        parquet_set(tmp_path / "all", name, ("a", "b"), 10)
    (tmp_path / "all" / "notes.csv").write_text("a,b")
    (tmp_path / "all" / "._south.parquet").write_bytes(b"left by a Mac")
    assert len(load_labelled_images(tmp_path / "all")) == 8
    assert not caplog.messages
    parquet_set(tmp_path / "all", "birds-test", ("a", "b"), 10)
    assert (len(load_labelled_images(tmp_path / "all")), len(caplog.messages)) == (4, 1)
    assert "passed over 2 Parquet files that name no split (north.parquet, south.parquet)" in caplog.messages[0]


def test_a_table_beside_flat_pictures_gives_their_classes_and_no_picture_is_lost(tmp_path):
    names = ["train_1.png", "test_2.png", "dev_3.png", "4.png"]
    for index, name in enumerate(names):
        picture(10 * index).save(tmp_path / name)
    lines = "".join(f"{name},{'ape' if index % 2 else 'bee'}\n" for index, name in enumerate(names))
    (tmp_path / "metadata.csv").write_text(f"file_name,label\n{lines}")
    data = load_labelled_images(tmp_path)
    assert (len(data), data.class_names, data.labels.bincount().tolist()) == (4, ["ape", "bee"], [2, 2])


def test_image_folders_on_a_hub_are_read_as_local_ones_are(hub, run_client, tmp_path):
    for label in ("train", "bus", "test-tube"):
        for name in ("1.png", "photo_test_2.png"):
            (tmp_path / "set" / label).mkdir(parents=True, exist_ok=True)
            picture(len(label)).save(tmp_path / "set" / label / name)
    (tmp_path / "set" / "README.md").write_text("# Pictures")
    hub.add_repo("lab/image-folder", tmp_path / "set", repo_type="dataset")
    code = (
        "import json; from hf_free.evaluation.datasets import load_labelled_images as load;"
        "data = load('lab/image-folder');"
        "print(json.dumps([data.split, data.class_names, data.labels.tolist(), list(data.at_size(4).shape)]))"
    )
    expected = ["train", ["bus", "test-tube", "train"], [0, 0, 1, 1, 2, 2], [6, 3, 4, 4]]
    assert run_client(code).json == expected
    before = len(hub.requests)
    assert run_client(code, env={"HF_HUB_OFFLINE": "1"}).json == expected
    assert len(hub.requests) == before


def test_a_hub_that_cannot_be_reached_is_named_within_thirty_seconds(run_client):
    code = "from hf_free.evaluation.datasets import load_labelled_images; load_labelled_images('org/pictures')"
    started = time.monotonic()
    done = run_client(code, env={"HF_ENDPOINT": "http://127.0.0.1:9"}, check=False)
    assert done.returncode == 1
    assert "HubError: cannot reach the Hub at http://127.0.0.1:9 for org/pictures" in done.stderr
    assert "Retry" not in done.stderr, "datasets' own retries take longer than anyone waits"
    assert time.monotonic() - started < 30
