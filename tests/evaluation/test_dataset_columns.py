"""Which columns of a table hold images and labels, and what labels may be."""

from __future__ import annotations

import pytest
from drawn import picture

from hf_free.errors import DatasetError
from hf_free.evaluation.datasets import load_labeled_images

datasets = pytest.importorskip("datasets")


@pytest.mark.parametrize(
    ("labels", "kind"), [(["b", "a", "b"], "string"), ([7, 3, 7], "int64"), ([True, False, True], "bool")]
)
def test_string_integer_and_truth_value_labels(tmp_path, labels, kind):
    content = {"picture": [picture(i) for i in range(3)], "category": labels}
    features = datasets.Features({"picture": datasets.Image(), "category": datasets.Value(kind)})
    path = tmp_path / "set.parquet"
    datasets.Dataset.from_dict(content, features=features).to_parquet(path)
    data = load_labeled_images(path)
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
        load_labeled_images(two_labels)
    with pytest.raises(DatasetError, match=r"several columns that could be the label[\s\S]*--label-column"):
        load_labeled_images(two_labels, image_column="left")


def test_named_columns_are_taken(two_labels):
    data = load_labeled_images(two_labels, image_column="right", label_column="text")
    assert data.class_names == ["a", "b"]
    assert data.at_size(12)[:, 0, 0, 0].tolist() == [3, 4]


def test_a_column_that_is_not_there_says_which_are(two_labels):
    with pytest.raises(DatasetError, match=r"no column 'img'[\s\S]*right \(Image\), color \(ClassLabel\)"):
        load_labeled_images(two_labels, image_column="img")


def test_missing_labels_are_refused(tmp_path):
    (tmp_path / "set").mkdir()
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["x", "y"])})
    content = {"image": [picture(1), picture(2)], "label": [-1, -1]}
    datasets.Dataset.from_dict(content, features=features).to_parquet(tmp_path / "blind.parquet")
    with pytest.raises(DatasetError, match=r"2 of 2 pictures have no label[\s\S]*choose another data set"):
        load_labeled_images(tmp_path / "blind.parquet")  # it has no other split
    datasets.Dataset.from_dict(content, features=features).to_parquet(tmp_path / "set" / "test.parquet")
    datasets.Dataset.from_dict(content | {"label": [0, 1]}, features=features).to_parquet(
        tmp_path / "set/train.parquet"
    )
    with pytest.raises(DatasetError, match=r"2 of 2 pictures have no label[\s\S]*another split with --split"):
        load_labeled_images(tmp_path / "set")


def test_labels_that_are_no_classes_are_refused(tmp_path):
    content = {"image": [picture(1)], "label": [0.5]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("float64")})
    datasets.Dataset.from_dict(content, features=features).to_parquet(tmp_path / "real.parquet")
    with pytest.raises(DatasetError, match=r"'0.5' of type float[\s\S]*--label-column"):
        load_labeled_images(tmp_path / "real.parquet")


def test_a_label_that_no_name_belongs_to_is_refused(tmp_path):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    content = {"image": [picture(1), picture(2)], "label": [0, 5]}
    data = datasets.Dataset.from_dict(content, features=features)
    data.to_parquet(tmp_path / "odd.parquet")
    import pyarrow.parquet as parquet

    table = parquet.read_table(tmp_path / "odd.parquet")
    named = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    parquet.write_table(table.replace_schema_metadata(named.arrow_schema.metadata), tmp_path / "odd.parquet")
    with pytest.raises(DatasetError, match=r"holds the label 5\n  allowed: 0 to 1"):
        load_labeled_images(tmp_path / "odd.parquet")
