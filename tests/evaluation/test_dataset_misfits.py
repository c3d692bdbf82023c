"""Data sets whose files do not fit each other or their card, through the real `datasets` client."""

from __future__ import annotations

import json

import pytest
from drawn import picture

from hf_free.errors import DatasetError
from hf_free.evaluation.dataset_misfits import misfit_of
from hf_free.evaluation.datasets import load_labeled_images

datasets = pytest.importorskip("datasets")

CARD = """---
dataset_info:
  features:
  - {name: %s, dtype: image}
  - {name: %s, dtype: {class_label: {names: {"0": ape, "1": bee}}}}
  splits:
  - {name: %s, num_bytes: 9, num_examples: %d}
---
"""
FITTING = ("image", "label", "train", 4)


def write(file, columns=("image", "label"), labels=(0, 1, 0, 1)):
    """A Parquet file of pictures and numbers that name no classes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    kind = "string" if isinstance(labels[0], str) else "int64"
    features = datasets.Features({columns[0]: datasets.Image(), columns[1]: datasets.Value(kind)})
    content = {columns[0]: [picture(40 * number) for number in range(len(labels))], columns[1]: list(labels)}
    datasets.Dataset.from_dict(content, features=features).to_parquet(file)
    return file.read_bytes()


def test_what_does_not_fit_is_said_in_words_of_ours(hub, run_client, tmp_path):
    good, other = write(tmp_path / "good.parquet"), write(tmp_path / "other.parquet", ("img", "kind"))
    files = "data/train-0000%d-of-00002.parquet"
    sets = {
        "fits": (CARD % FITTING, [good]),
        "card": (CARD % ("picture", "kind", "train", 4), [good]),
        "files": ("", [good, other]),
        "rows": (CARD % ("image", "label", "train", 1000), [good]),
        "splits": (CARD % ("image", "label", "test", 4), [good]),
        "types": ((CARD % FITTING).replace("name: label, dtype: {", "name: label, dtype: image, x: {"), [good]),
    }
    for name, (card, tables) in sets.items():
        named = {files % number: table for number, table in enumerate(tables)}
        hub.add_repo(f"misfits/{name}", {"README.md": card.encode(), **named}, repo_type="dataset")
    code = f"""
import json
from hf_free.errors import DatasetError
from hf_free.evaluation.datasets import load_labeled_images
said = {{}}
for name in {list(sets)}:
    try:
        said[name] = load_labeled_images("misfits/" + name).class_names
    except DatasetError as error:
        said[name] = str(error).splitlines()[0].partition("cannot be read: ")[2]
print(json.dumps(said))
"""
    assert json.loads(run_client(code).stdout.splitlines()[-1]) == {
        "fits": ["ape", "bee"],
        "card": "a file of it has the columns 'image', 'label', and its card or its first file 'picture', 'kind'",
        "files": "a file of it has the columns 'img', 'kind', and its card or its first file 'image', 'label'",
        "rows": "its card announces 1,000 rows in the split train, and its files have 4 rows",
        "splits": "its card names the splits 'test', which its files do not hold",
        "types": "a column is int64 in one of its files, and struct in its card or its first file",
    }


def test_files_of_a_folder_with_other_columns_are_said(tmp_path):
    write(tmp_path / "set" / "a.parquet")
    write(tmp_path / "set" / "b.parquet", ("img", "kind"), ("x", "y"))
    with pytest.raises(DatasetError, match=r"columns 'img', 'kind', and its card or its first file 'image', 'label'"):
        load_labeled_images(tmp_path / "set")


def test_more_of_what_does_not_fit():
    errors = datasets.exceptions
    wide = errors.DatasetGenerationCastError(
        "An error occurred while generating the dataset\n\nAll the data files must have the same columns, but at some "
        "point there are 2 new columns ({'a', 'b'})\n\nThis happened while the csv dataset builder was"
    )
    assert misfit_of(wide).reason == "its files have different columns: 2 new columns ({'a', 'b'})"
    assert "its files hold the splits 'dev'" in misfit_of(errors.UnexpectedSplitsError("{'dev'}")).reason
    assert "other numbers of rows" in misfit_of(errors.NonMatchingSplitsSizesError("new words")).reason
    behind = errors.DatasetGenerationError("An error occurred")
    behind.__cause__ = ValueError("Class label -7 less than -1")
    assert misfit_of(behind).reason == "a file of it holds the label -7"
    behind.__cause__ = ValueError("Class label 5 greater than configured num_classes 2")
    assert misfit_of(behind).reason == "a file of it holds the label 5, and its card or first file names 2 classes"
    for said in ("Integer value 300 not in range: -128 to 127", "Float value 1.5 was truncated converting to int64"):
        assert "a number in one of its files is none of the type" in misfit_of(ValueError(said)).reason
    several = TypeError("Couldn't cast array of type\nlist<item: int64>\nto\nValue('string')")
    assert "a column is list<item: int64> in one of its files, and Value('string') in" in misfit_of(several).reason
    assert misfit_of(errors.DatasetGenerationError("An error occurred")) is None
