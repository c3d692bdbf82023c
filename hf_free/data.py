"""Pictures and labels out of a `datasets` id, Parquet or a folder of pictures."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from hf_free.data_opening import PICTURE_SUFFIXES, open_hub, open_local, read_or_explain
from hf_free.errors import DatasetError
from hf_free.learner.images import match_channels, picture_to_tensor, resize

if TYPE_CHECKING:
    import datasets

SPLIT_ORDER = ("test", "validation", "valid", "val", "dev", "train")
"""Split taken where none is named: the first of these that is there."""

IMAGE_NAMES = ("image", "img", "picture", "images", "pixels", "jpg", "png", "webp")
LABEL_NAMES = ("label", "labels", "class", "class_name", "category", "target", "cls", "fine_label")


@dataclass
class LabelledImages:
    """Pictures with a class each; only classes that occur are named.

    Attributes:
        images: PIL pictures, uint8 tensors (C, H, W), or one uint8 tensor (N, C, H, W).
        labels: (N,) positions in `class_names`.
        class_names: Name of each class.
        source: Where they come from.
        split: Which part of it.
    """

    images: Sequence[Image.Image | Tensor] | Tensor
    labels: Tensor
    class_names: list[str]
    source: str = ""
    split: str = ""

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise DatasetError(f"{len(self.images)} pictures and {len(self.labels)} labels", allowed="one a picture")

    def __len__(self) -> int:
        return len(self.labels)

    def at_size(self, size: int, channels: int = 3) -> Tensor:
        """All pictures as one uint8 tensor (N, channels, size, size), resized with antialiasing, aspect not kept."""
        if isinstance(self.images, Tensor):
            parts: Iterator[Tensor] = (part for part in self.images.split(256))
        else:
            parts = (_as_tensor(picture)[None] for picture in self.images)
        return torch.cat([_resized(part, size, channels) for part in parts])


@dataclass
class FolderImages:
    """Pictures of a folder: their paths, the pictures, and the names of their sub-folders where those are classes."""

    paths: list[Path]
    images: Sequence[Image.Image]
    labels: list[str] | None


class _LazyPictures(Sequence[Image.Image]):
    """Pictures that are decoded when asked for, so that a data set is held in its encoded form."""

    def __init__(self, encoded: Sequence[Any], source: str) -> None:
        self._encoded, self._source = encoded, source

    def __len__(self) -> int:
        return len(self._encoded)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return _LazyPictures([self._encoded[i] for i in range(*index.indices(len(self)))], self._source)
        return _decode(self._encoded[index], f"{self._source}, picture {index}")


def load_labelled_images(
    source: str | Path,
    *,
    split: str | None = None,
    splits: Sequence[str] = SPLIT_ORDER,
    image_column: str | None = None,
    label_column: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | None = None,
) -> LabelledImages:
    """Load pictures with labels.

    Args:
        source: A `datasets` id `org/name` (or `org/name:config`), a Parquet file, a folder of Parquet files, or a
            folder of pictures (a folder a class, under a folder a split or not). A local path never asks the network.
        split: Which split; None takes the first of `splits` that is there.
        splits: Names of splits in the order of preference: by default test, validation, train.
        image_column: Name of the column of pictures; found by its type or name where not given.
        label_column: Name of the column of labels (class, string or integer), likewise.
        revision: Revision of a Hub data set.
        token: Access token for the Hub.
        cache_dir: Folder of the `datasets` cache, for Hub data sets.

    Raises:
        DatasetError: no such data set, split or column, or columns that cannot be told apart.
    """
    import datasets

    text = str(source)
    is_local = Path(text).exists()
    with tempfile.TemporaryDirectory() as scratch:
        parts = open_local(Path(text), scratch) if is_local else open_hub(text, revision, token, cache_dir)
        chosen = _choose_split(list(parts), split, text, splits)
        data = parts[chosen]
        features = data.features
        if features is None:
            raise DatasetError(f"{text} has no pictures in split {chosen}", action="check the folder's files")
        image_column = _find_column(features, image_column, datasets.Image, IMAGE_NAMES, "image", text)
        label_column = _find_column(features, label_column, datasets.ClassLabel, LABEL_NAMES, "label", text)
        data = data.select_columns([image_column, label_column])
        if isinstance(features[image_column], datasets.Image):
            data = data.cast_column(image_column, datasets.Image(decode=False))
        if is_local:
            rows = read_or_explain(lambda: list(data), text)
            encoded, values = [row[image_column] for row in rows], [row[label_column] for row in rows]
        else:
            encoded, values = data[image_column], list(data[label_column])
    names, labels = _index_classes(values, features[label_column], f"{text}, split {chosen}, column {label_column}")
    return LabelledImages(_LazyPictures(encoded, text), labels, names, source=text, split=chosen)


def load_folder_images(folder: str | Path) -> FolderImages:
    """Read the pictures of a folder: a sub-folder a class (labels are their names), or a flat folder (no labels).

    Raises:
        DatasetError: no such folder, no pictures in it, or pictures both beside and inside sub-folders.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DatasetError(f"{folder} is not a folder", action="give a folder of pictures")
    flat = _pictures_in(folder)
    nested = [path for child in sorted(folder.iterdir()) if child.is_dir() for path in _pictures_in(child)]
    if flat and nested:
        raise DatasetError(
            f"{folder} holds {len(flat)} pictures and, in sub-folders, {len(nested)} more",
            allowed="either a sub-folder a class, or pictures only",
            action="move them apart",
        )
    paths = nested or flat
    if not paths:
        raise DatasetError(f"{folder} holds no pictures", allowed=f"files {', '.join(sorted(PICTURE_SUFFIXES))}")
    labels = [path.parent.name for path in nested] or None
    return FolderImages(paths, _LazyPictures([str(path) for path in paths], str(folder)), labels)


def _pictures_in(folder: Path) -> list[Path]:
    """The picture files directly in a folder, sorted by name."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES and p.is_file())


def _choose_split(names: list[str], wanted: str | None, source: str, order: Sequence[str] = SPLIT_ORDER) -> str:
    """The split that was asked for, or the first in order, or the only one."""
    if wanted is not None:
        if wanted not in names:
            raise DatasetError(f"{source} has no split {wanted!r}", allowed=", ".join(names), action="--split NAME")
        return wanted
    for name in order:
        if name in names:
            return name
    if len(names) == 1:
        return names[0]
    raise DatasetError(f"{source} has the splits {', '.join(names)}", allowed="one of them", action="--split NAME")


def _find_column(
    features: datasets.Features,
    wanted: str | None,
    kind: type,
    names: Sequence[str],
    role: str,
    source: str,
) -> str:
    """The column of pictures or labels: the one named, else the only one of its type, else the one of a known name."""
    found = ", ".join(f"{name} ({_type_name(feature)})" for name, feature in features.items())
    action = f"--{role}-column NAME"
    if wanted is not None:
        if wanted not in features:
            raise DatasetError(f"{source} has no column {wanted!r}", allowed=f"one of {found}", action=action)
        return wanted
    typed = [name for name, feature in features.items() if isinstance(feature, kind)]
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


def _index_classes(values: list[Any], feature: Any, where: str) -> tuple[list[str], Tensor]:
    """Names of the classes that occur, in the order of their values, and (N,) positions among them."""
    missing = sum(value is None or value == -1 for value in values)
    if missing or not values:
        raise DatasetError(
            f"{where}: {missing} of {len(values)} pictures have no label",
            allowed="a label for every picture",
            action="choose another split with --split",
        )
    wrong = next((value for value in values if not isinstance(value, (str, int, np.integer))), None)
    if wrong is not None:
        raise DatasetError(
            f"{where} holds {str(wrong)[:50]!r} of type {type(wrong).__name__}",
            allowed="class, string or integer labels",
            action="--label-column NAME",
        )
    distinct = sorted(set(values))
    positions = {value: index for index, value in enumerate(distinct)}
    named = hasattr(feature, "int2str") and isinstance(distinct[0], (int, np.integer))
    names = [feature.int2str(int(value)) if named else str(value) for value in distinct]
    return names, torch.tensor([positions[value] for value in values])


def _decode(value: Any, where: str) -> Image.Image:
    """A PIL picture from what a column may hold: encoded bytes, a path, an array, or a picture."""
    if isinstance(value, Image.Image):
        return value
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    try:
        if isinstance(value, (bytes, str, Path)):
            picture = Image.open(io.BytesIO(value) if isinstance(value, bytes) else value)
            picture.load()
            return ImageOps.exif_transpose(picture)
        if isinstance(value, (list, np.ndarray)):
            return Image.fromarray(np.asarray(value, dtype=np.uint8))
    except (OSError, UnidentifiedImageError, ValueError, TypeError) as error:
        raise DatasetError(f"{where} cannot be decoded: {error}", action="mend or remove that picture") from None
    raise DatasetError(
        f"{where} is a {type(value).__name__}",
        allowed="encoded bytes, a path, or an array height x width (x 3)",
        action="--image-column NAME",
    )


def _as_tensor(picture: Image.Image | Tensor) -> Tensor:
    """A picture as a uint8 tensor (C, H, W)."""
    return picture if isinstance(picture, Tensor) else picture_to_tensor(picture)


def _resized(images: Tensor, size: int, channels: int) -> Tensor:
    """Resize uint8 pictures (B, C, H, W) and match their channels; pictures of that size are left as they are."""
    if images.dtype != torch.uint8:
        raise DatasetError(f"pictures of type {images.dtype}", allowed="uint8")
    if images.shape[1:] == (channels, size, size):
        return images
    resized = resize(match_channels(images.float(), channels), size)
    return resized.round_().clamp_(0, 255).to(torch.uint8)
