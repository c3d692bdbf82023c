"""Plain Parquet files of pictures and labels on this computer, read without `datasets`: its import takes longer than
reading a few thousand pictures.

Only what `datasets` would give without changing anything is read here: files that say what their columns hold, all
alike, in types that need no cast. Everything else, and whatever is wrong, is left to it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hf_free.provenance.reading import JsonView, list_of, object_of
from hf_free.runtime.files import read_bounded

if TYPE_CHECKING:
    import pyarrow

_NAMING = (".huggingface.yaml", "dataset_infos.json")
"""Files beside a card by which `datasets` reads a folder in another way."""

_MOST_BYTES = 2**22

_TYPES = {"float16": "halffloat", "float32": "float", "float64": "double"}
"""Types that pyarrow calls otherwise than `datasets`."""

_SAME = frozenset({"bool", "string", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))})

_PICTURE = "struct<bytes: binary, path: string>"


@dataclass(frozen=True)
class Image:
    """A column of pictures, as `datasets.Image`."""


@dataclass(frozen=True)
class ClassLabel:
    """A column of numbers that stand for names, as `datasets.ClassLabel`."""

    names: tuple[str, ...]
    dtype: str = "int64"

    @property
    def num_classes(self) -> int:
        """How many names there are."""
        return len(self.names)

    def int2str(self, value: int) -> str:
        """The name of a number."""
        return self.names[value]


@dataclass(frozen=True)
class Value:
    """A column of numbers or texts, as `datasets.Value`."""

    dtype: str


Feature = Image | ClassLabel | Value


@dataclass(frozen=True)
class ParquetSplit:
    """One split of some files, read row by row in their order."""

    files: tuple[Path, ...]
    features: dict[str, Feature]
    columns: tuple[str, ...] | None = None
    """Those that are read; None reads all."""

    def select_columns(self, names: Sequence[str]) -> ParquetSplit:
        """The same split with these columns alone."""
        return ParquetSplit(self.files, {name: self.features[name] for name in names}, tuple(names))

    def __iter__(self) -> Iterator[dict[str, object]]:
        """Rows by the names of their columns; pictures as they are stored."""
        import pyarrow.parquet

        for file in self.files:
            with pyarrow.parquet.ParquetFile(file, memory_map=False) as opened:
                for group in range(opened.num_row_groups):
                    table = opened.read_row_group(group, columns=None if self.columns is None else list(self.columns))
                    yield from table.to_pylist()


def read_plainly(groups: Mapping[str, Sequence[Path]], folder: Path | None = None) -> dict[str, ParquetSplit] | None:
    """The splits of some Parquet files.

    Args:
        groups: Files by the name of their split.
        folder: Whose card `datasets` would read, if any.

    Returns:
        None where only `datasets` knows what is in the files, or what is wrong with them.
    """
    import pyarrow
    import pyarrow.parquet

    if "all" in groups or (folder is not None and _is_described(folder)):
        return None
    found: dict[str, Feature] | None = None
    for file in (file for files in groups.values() for file in files):
        try:
            with pyarrow.parquet.ParquetFile(file, memory_map=False) as opened:
                is_empty, features = not opened.metadata.num_rows, _features(opened.schema_arrow)
        except (pyarrow.ArrowException, OSError, ValueError):
            return None
        if is_empty or features is None or (found is not None and list(found.items()) != list(features.items())):
            return None
        found = features
    return None if found is None else {name: ParquetSplit(tuple(files), found) for name, files in groups.items()}


def _is_described(folder: Path) -> bool:
    """Whether something beside the files may say how they are read."""
    if any((folder / name).exists() for name in _NAMING) or any(folder.glob("*.py")):
        return True
    try:
        text = read_bounded(folder / "README.md", max_bytes=_MOST_BYTES).decode("utf-8-sig")
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True
    return text.lstrip().startswith("---")


def _features(schema: pyarrow.Schema) -> dict[str, Feature] | None:
    """What the columns hold, as the files say; None where they say nothing, or something unusual."""
    written = (schema.metadata or {}).get(b"huggingface")
    if written is None or len(set(schema.names)) < len(schema.names):
        return None
    try:
        described = object_of(object_of(object_of(json.loads(written)).get("info")).get("features"))
    except (ValueError, RecursionError):
        return None
    if set(described) != set(schema.names):
        return None
    features = {}
    for field in schema:
        feature = _feature(object_of(described[field.name]), str(field.type)) if field.nullable else None
        if feature is None:
            return None
        features[field.name] = feature
    return features


def _feature(described: JsonView, stored: str) -> Feature | None:
    """One column's, which is stored as a type."""
    kind, keys = described.get("_type"), set(described) - {"_type"}
    if kind == "Image" and not keys and stored == _PICTURE:
        return Image()
    dtype = described.get("dtype")
    if kind == "ClassLabel" and keys == {"names"} and stored == "int64":
        names = list_of(described["names"])
        is_plain = bool(names) and all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
        return ClassLabel(tuple(names)) if is_plain else None
    if kind == "Value" and keys == {"dtype"} and isinstance(dtype, str):
        is_stored = _TYPES.get(dtype, dtype if dtype in _SAME else None) == stored
        return Value(dtype) if is_stored else None
    return None
