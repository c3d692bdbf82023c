"""Pictures and labels out of a `datasets` id, Parquet or a folder of pictures."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hf_free.data_opening import open_hub, open_local, read_or_explain
from hf_free.errors import DatasetError
from hf_free.learner.decoding import PICTURE_SUFFIXES, WHITE, Color, PictureError, is_picture_file, prepare, reduce
from hf_free.learner.images import LazyPictures, PictureBatch, Preprocessing, Progress, fit, read_batch

if TYPE_CHECKING:
    import datasets
    from PIL.Image import Image

SPLIT_ORDER = ("test", "validation", "valid", "val", "dev", "train")
"""Split taken where none is named: the first of these that is there."""

IMAGE_NAMES = ("image", "img", "picture", "images", "pixels", "jpg", "png", "webp")
LABEL_NAMES = ("label", "labels", "class", "class_name", "category", "target", "cls", "fine_label")


@dataclass
class LabelledImages:
    """Pictures with a class each; only classes that occur are named.

    Attributes:
        images: Pictures of any kind (`LazyPictures` of files among them), or one tensor (N, C, H, W).
        labels: (N,) positions in `class_names`.
        class_names: Name of each class.
        source: Where they come from.
        split: Which part of it.
        background: What transparent pictures are laid on.
    """

    images: Sequence[Image | Tensor] | Tensor
    labels: Tensor
    class_names: list[str]
    source: str = ""
    split: str = ""
    background: Color = WHITE

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise DatasetError(f"{len(self.images)} pictures and {len(self.labels)} labels", allowed="one a picture")

    def __len__(self) -> int:
        return len(self.labels)

    def at_size(self, size: int, channels: int = 3) -> Tensor:
        """All pictures as uint8 (N, channels, size, size), the shape not kept, rounded to 8 bits; see `read`."""
        images = self.read(Preprocessing(size, channels)).images
        return images if images.dtype == torch.uint8 else (255 * images).round_().to(torch.uint8)

    def read(self, preprocessing: Preprocessing, progress: Progress | None = None) -> PictureBatch:
        """All pictures as a network is shown them.

        Args:
            preprocessing: Size, channels, and how they are brought there.
            progress: Called while pictures are read.

        Returns:
            Images (N, channels, size, size), as `MetaLearner.adapt` sees them: uint8, or float32 in [0, 1] if any
            picture has more than 8 bits.

        Raises:
            PictureError: pictures that cannot be read; all are named and counted.
        """
        if not isinstance(self.images, Tensor):
            return read_batch(self.images, preprocessing, background=self.background, progress=progress)
        shorter = preprocessing.shorter_side
        parts = (prepare(part, background=self.background) for part in self.images.split(256))
        images = torch.cat([fit(reduce(part, shorter), preprocessing) for part in parts])
        return PictureBatch(images, torch.arange(len(images)))

    def select(self, places: Tensor) -> LabelledImages:
        """The pictures at some positions (M,), with the names of the classes that occur among them."""
        if isinstance(self.images, Tensor):
            images: Any = self.images[places]
        elif isinstance(self.images, LazyPictures):
            images = self.images.chosen(places.tolist())
        else:
            images = [self.images[place] for place in places.tolist()]
        present, labels = torch.unique(self.labels[places], return_inverse=True)
        return replace(self, images=images, labels=labels, class_names=[self.class_names[i] for i in present.tolist()])

    def readable(self, progress: Progress | None = None) -> tuple[LabelledImages, list[PictureError]]:
        """The pictures that can be read, each read once for it, and why the others cannot.

        Raises:
            DatasetError: none of them can be read.
        """
        if isinstance(self.images, Tensor):
            return self, []
        batch = read_batch(self.images, Preprocessing(1), progress=progress, keep_going=True)
        errors = list(batch.errors.values())
        if errors and not len(batch.places):
            raise DatasetError(f"none of the {len(self)} pictures of {self.source} can be read: {errors[0]}")
        return (self.select(batch.places) if errors else self), errors


@dataclass
class FolderImages:
    """Pictures of a folder: their paths, the pictures, and the names of their sub-folders where those are classes."""

    paths: list[Path]
    images: LazyPictures
    labels: list[str] | None


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
    calls = [f"{text}, picture {index}" for index in range(len(labels))]
    pictures = LazyPictures(encoded, calls, _number_type(features[image_column]))
    return LabelledImages(pictures, labels, names, source=text, split=chosen)


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
    names = [str(path) for path in paths]
    return FolderImages(paths, LazyPictures(names, names), labels)


def _pictures_in(folder: Path) -> list[Path]:
    """The picture files directly in a folder, sorted by name."""
    return sorted(p for p in folder.iterdir() if is_picture_file(p) and p.is_file())


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


def _number_type(feature: Any) -> str | None:
    """Type of the numbers of a column of arrays or nested lists, as numpy names it; None for other columns."""
    while getattr(feature, "feature", None) is not None or isinstance(feature, list):
        feature = feature[0] if isinstance(feature, list) else feature.feature
    kind = str(getattr(feature, "dtype", "")).replace("halffloat", "float16").replace("double", "float64")
    return kind if kind.startswith(("uint", "int", "float", "bool")) else None
