"""Plain Parquet files are what `datasets` makes of them; it is asked about all others."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch
from drawn import picture

from hf_free.errors import DatasetError
from hf_free.evaluation.datasets import load_labeled_images
from hf_free.evaluation.parquet_files import read_plainly

datasets = pytest.importorskip("datasets")

NAMES = ["dog", "ape", "bee"]


def _write(file: Path, label: object, values: list[object], **more: tuple[object, list[object]]) -> Path:
    features = {"image": datasets.Image(), "label": label, **{name: kind for name, (kind, _) in more.items()}}
    content = {"image": [picture(30 * place) for place in range(len(values))], "label": values}
    content |= {name: given for name, (_, given) in more.items()}
    made = datasets.Dataset.from_dict(content, features=datasets.Features(features))
    file.parent.mkdir(parents=True, exist_ok=True)
    made.to_parquet(file, batch_size=2)  # several groups of rows
    return file


def _rewritten(file: Path, change) -> None:
    table = pyarrow.parquet.read_table(file)
    pyarrow.parquet.write_table(change(table), file)


CASES = {
    "classes": (datasets.ClassLabel(names=NAMES), [2, 1, 1, 2, 0]),
    "texts": (datasets.Value("string"), ["b", "a", "b", "c", "a"]),
    "numbers": (datasets.Value("int32"), [7, -3, 7, 7, -3]),
    "switches": (datasets.Value("bool"), [True, False, True, True, False]),
    "classes, one missing": (datasets.ClassLabel(names=NAMES), [2, None, 1]),
    "classes, one unknown": (datasets.ClassLabel(names=NAMES), [2, -1, 1]),
}


@pytest.mark.parametrize("case", CASES)
def test_they_are_read_as_datasets_reads_them(case, tmp_path, monkeypatch):
    label, values = CASES[case]
    for split in ("train", "validation"):
        more = {"depth": (datasets.Value("float32"), [0.5] * len(values))}
        _write(tmp_path / "set" / f"{split}-00000-of-00001.parquet", label, values, **more)
    assert read_plainly({"train": sorted((tmp_path / "set").iterdir())}) is not None

    def outcome() -> object:
        try:
            data = load_labeled_images(tmp_path / "set")
        except DatasetError as error:
            return str(error)
        encoded = [data.images.encoded(place) for place in range(len(data))]
        names = [data.images.name(place) for place in range(len(data))]
        return data.class_names, data.labels.tolist(), encoded, names, data.split, data.others, data.at_size(8)

    found = outcome()
    monkeypatch.setattr("hf_free.evaluation.dataset_sources.read_plainly", lambda *_: None)
    expected = outcome()
    if isinstance(expected, str):
        assert found == expected
    else:
        assert found[:-1] == expected[:-1]
        assert torch.equal(found[-1], expected[-1])


def test_columns_are_found_by_their_types_and_named_in_messages_alike(tmp_path, monkeypatch):
    file = tmp_path / "train.parquet"
    features = {"a": datasets.Image(), "b": datasets.Image(), "kind": datasets.ClassLabel(names=NAMES)}
    content = {"a": [picture(1)], "b": [picture(2)], "kind": [0]}
    datasets.Dataset.from_dict(content, features=datasets.Features(features)).to_parquet(file)
    messages, expected = [], r"several columns.*a \(Image\), b \(Image\), kind \(ClassLabel\)"
    for _ in range(2):
        with pytest.raises(DatasetError, match=expected) as raised:
            load_labeled_images(file)
        messages.append(str(raised.value))
        monkeypatch.setattr("hf_free.evaluation.dataset_sources.read_plainly", lambda *_: None)
    assert messages[0] == messages[1]


def _card(folder: Path) -> None:
    (folder / "README.md").write_text("\n---\nlicense: mit\n---\nwords", encoding="utf-8")


def _no_text(folder: Path) -> None:
    (folder / "README.md").write_bytes(b"\xff\xfe\xfa")


def _infos(folder: Path) -> None:
    (folder / "dataset_infos.json").write_text("{}", encoding="utf-8")


def _script(folder: Path) -> None:
    (folder / f"{folder.name}.py").write_text("", encoding="utf-8")


def _nothing_said(folder: Path) -> None:
    _rewritten(folder / "train.parquet", lambda table: table.replace_schema_metadata(None))


def _other_type(folder: Path) -> None:
    def change(table: pyarrow.Table) -> pyarrow.Table:
        place = table.schema.get_field_index("label")
        return table.set_column(place, "label", table["label"].cast(pyarrow.int32()))

    _rewritten(folder / "train.parquet", change)


def _never_missing(folder: Path) -> None:
    def change(table: pyarrow.Table) -> pyarrow.Table:
        fields = [field.with_nullable(field.name != "label") for field in table.schema]
        return table.cast(pyarrow.schema(fields, metadata=table.schema.metadata))

    _rewritten(folder / "train.parquet", change)


def _odd_column(folder: Path) -> None:
    def change(table: pyarrow.Table) -> pyarrow.Table:
        written = json.loads(table.schema.metadata[b"huggingface"])
        written["info"]["features"]["label"]["_type"] = "Sound"
        return table.replace_schema_metadata({"huggingface": json.dumps(written)})

    _rewritten(folder / "train.parquet", change)


def _other_names(folder: Path) -> None:
    _write(folder / "test.parquet", datasets.ClassLabel(names=[*NAMES, "eel"]), [3])


def _empty(folder: Path) -> None:
    _write(folder / "test.parquet", datasets.ClassLabel(names=NAMES), [])


def _damaged(folder: Path) -> None:
    (folder / "test.parquet").write_bytes(b"PAR1 and nothing else")


@pytest.mark.parametrize(
    "change",
    [
        _card,
        _no_text,
        _infos,
        _script,
        _nothing_said,
        _other_type,
        _never_missing,
        _odd_column,
        _other_names,
        _empty,
        _damaged,
    ],
)
def test_what_is_unusual_or_wrong_is_left_to_datasets(change, tmp_path):
    _write(tmp_path / "train.parquet", datasets.ClassLabel(names=NAMES), [1, 2])
    (tmp_path / "README.md").write_text("# Words\n\n---\nand more", encoding="utf-8")

    def plainly() -> object:
        files = sorted(tmp_path.glob("*.parquet"))
        return read_plainly({file.stem: [file] for file in files}, tmp_path)

    assert plainly() is not None
    change(tmp_path)
    assert plainly() is None


def test_rows_that_turn_out_to_be_damaged_are_explained(tmp_path):
    file = _write(tmp_path / "train.parquet", datasets.ClassLabel(names=NAMES), [1, 2, 1, 2])
    content = bytearray(file.read_bytes())
    content[4:200] = bytes(196)
    file.write_bytes(content)
    with pytest.raises(DatasetError, match=r"train.parquet' cannot be read: a Parquet file of it is damaged"):
        load_labeled_images(file)


def test_neither_datasets_nor_the_hubs_client_is_imported(parquet, run_client):
    code = f"""
import sys
from hf_free.evaluation.datasets import load_labeled_images
data = load_labeled_images({str(parquet)!r})
print(len(data), sorted({{"datasets", "huggingface_hub", "pandas"}} & set(sys.modules)))
"""
    assert run_client(code, imports=True).stdout == "3 []\n"
