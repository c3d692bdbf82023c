"""Tables with a column of images and one of labels: which these are, what they hold, how one is written."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from hf_free.errors import DatasetError

if TYPE_CHECKING:
    import datasets

Role = Literal["image", "label"]
IMAGE_NAMES = ("image", "img", "picture", "images", "pixels", "jpg", "png", "webp")
LABEL_NAMES = ("label", "labels", "class", "class_name", "category", "target", "cls", "fine_label")


@dataclass(frozen=True)
class DataFlags:
    """The flags that a message tells the user to write; "" where the verb has none."""

    split: str = "--split NAME"
    image_column: str = "--image-column NAME"
    label_column: str = "--label-column NAME"


FLAGS = DataFlags()
"""Those of `hf-free evaluate`."""


def find_column(
    features: Mapping[str, Any],
    wanted: str | None,
    role: Role,
    source: str,
    flags: DataFlags,
) -> str:
    """The column of images or labels: the one that was named, else the only one of its type, else the one with a usual
    name.

    Raises:
        DatasetError: no such column, none that could be it, or several.
    """
    kind, names = ("Image", IMAGE_NAMES) if role == "image" else ("ClassLabel", LABEL_NAMES)
    found = ", ".join(f"{name} ({_type_name(feature)})" for name, feature in features.items())
    action = (flags.image_column if role == "image" else flags.label_column) or f"call that column {role}"
    if wanted is not None:
        if wanted not in features:
            raise DatasetError(f"{source} has no column {wanted!r}", allowed=f"one of {found}", action=action)
        return wanted
    typed = [name for name, feature in features.items() if type(feature).__name__ == kind]
    known = [name for name in (typed or features) if name.lower() in names]
    candidates = known if len(typed) != 1 else typed
    if len(candidates) == 1:
        return candidates[0]
    problem = "several columns that could be" if len(typed) > 1 or candidates else "no column that looks like"
    raise DatasetError(f"{source} has {problem} the {role}: {found}", allowed="one column named", action=action)


def _type_name(feature: Any) -> str:
    """Short name of a column's type."""
    kind = type(feature).__name__
    return str(feature.dtype) if kind == "Value" else kind


def index_classes(
    values: list[Any], feature: Any, where: str, flags: DataFlags, *, others: bool
) -> tuple[list[str], Tensor]:
    """Names of the classes that occur, in the order of their values, and (N,) positions among them.

    Args:
        values: A label for each picture: str, int or bool, as `datasets` gives them.
        feature: The column's type, which may know the classes' names.
        where: The column, for messages.
        flags: What messages tell the user to write.
        others: Whether there are other splits to choose.
    """
    missing = sum(value is None or (value == -1 and not isinstance(value, bool)) for value in values)
    if missing or not values:
        raise DatasetError(
            f"{where}: {missing} of {len(values)} pictures have no label" if values else f"{where} holds no pictures",
            allowed="a label for every picture",
            action=f"choose another split with {flags.split}" if others else "choose another data set",
        )
    wrong = next((value for value in values if not isinstance(value, (str, int, np.integer, np.bool_))), None)
    if wrong is not None:
        raise DatasetError(
            f"{where} holds {str(wrong)[:50]!r} of type {type(wrong).__name__}",
            allowed="class, string, integer or true/false labels",
            action=flags.label_column or "call the column of classes label",
        )
    distinct = sorted(set(values))
    positions = {value: index for index, value in enumerate(distinct)}
    named = hasattr(feature, "int2str") and isinstance(distinct[0], (int, np.integer))
    if named and not 0 <= distinct[0] <= distinct[-1] < feature.num_classes:
        strange = distinct[0] if distinct[0] < 0 else distinct[-1]
        raise DatasetError(
            f"{where} holds the label {strange}",
            allowed=f"0 to {feature.num_classes - 1}, as many as its features name",
            action="correct the data set's label names, or its labels",
        )
    names = [feature.int2str(int(value)) if named else str(value) for value in distinct]
    return names, torch.tensor([positions[value] for value in values])


def number_type(feature: Any) -> str | None:
    """Type of the numbers of a column of arrays or nested lists, as numpy names it; None for other columns."""
    while getattr(feature, "feature", None) is not None or isinstance(feature, list):
        feature = feature[0] if isinstance(feature, list) else feature.feature
    kind = str(getattr(feature, "dtype", "")).replace("halffloat", "float16").replace("double", "float64")
    return kind if kind.startswith(("uint", "int", "float", "bool")) else None


def undecoded(data: datasets.Dataset, column: str) -> datasets.Dataset:
    """The data set with its column of images left encoded, to be decoded by hf-free; other columns stay as they
    are."""
    import datasets

    is_encoded = isinstance((data.features or {})[column], datasets.Image)
    return data.cast_column(column, datasets.Image(decode=False)) if is_encoded else data


def parquet_of(images: Tensor, labels: Tensor, class_names: Sequence[str]) -> bytes:
    """A Parquet file of images (N, 3, H, W), uint8, as PNG, with labels (N,), in columns `image` and `label`."""
    import datasets
    import pyarrow
    import pyarrow.parquet
    from PIL import Image

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(class_names))})
    encoded = []
    for image in images:
        png = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(png, format="PNG")
        encoded.append({"bytes": png.getvalue(), "path": None})
    columns = {"image": encoded, "label": labels.tolist()}
    parquet = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pydict(columns, schema=features.arrow_schema), parquet)
    return parquet.getvalue()
