"""Pictures and labels out of a `datasets` id, Parquet or a folder of pictures."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hf_free.data.decoding import PICTURE_SUFFIXES, WHITE, Color, PictureError, parse_color, prepare, reduce
from hf_free.data.images import LazyPictures, PictureBatch, Preprocessing, Progress, fit, read_batch
from hf_free.errors import DatasetError
from hf_free.evaluation.dataset_archives import archives_among
from hf_free.evaluation.dataset_columns import FLAGS, DataFlags, find_column, index_classes, number_type, undecoded
from hf_free.evaluation.dataset_sources import open_data, read_or_explain
from hf_free.evaluation.parquet_files import ParquetSplit
from hf_free.evaluation.picture_folder import SPLIT_WORDS, PictureFolder, read_picture_folder, visible_files
from hf_free.runtime.given import (
    TOLD,
    check_cache_dir,
    check_function,
    check_kind,
    check_texts,
    short_form,
    why_no_path,
)
from hf_free.runtime.text import alike, listed

if TYPE_CHECKING:
    from PIL.Image import Image

logger = logging.getLogger(__name__)

SPLIT_ORDER = ("test", "validation", "valid", "val", "dev", "train")
"""Split taken where none is named: the first of these that is there."""

SUPPORT_SPLITS = ("train", "validation", "test")
"""The same for a support folder."""


@dataclass
class LabeledImages:
    """Pictures with a class each; only classes that occur are named.

    Attributes:
        images: Pictures of any kind (`LazyPictures` of files among them), or one tensor (N, C, H, W).
        labels: (N,) positions in `class_names`.
        class_names: Name of each class.
        source: Where they come from.
        split: Which part of it.
        background: What transparent pictures are laid on.
        others: Further splits that there are.

    Raises:
        DatasetError: another number of labels than of pictures, or labels that are no positions.
    """

    images: Sequence[Image | Tensor] | Tensor
    labels: Tensor
    class_names: list[str]
    source: str = ""
    split: str = ""
    background: Color = WHITE
    others: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._check_kinds()
        self.labels = _places(self.labels)
        if not hasattr(self.images, "__len__"):  # such as a generator, which could be read once only
            self.images = list(self.images)
        if len(self.images) != len(self.labels):
            raise DatasetError(f"{len(self.images)} pictures and {len(self.labels)} labels", allowed="one per picture")
        names = [] if self.class_names is None else self.class_names
        low, high = (int(self.labels.min()), int(self.labels.max())) if len(self.labels) else (0, -1)
        if low < 0 or high >= len(names):
            raise DatasetError(
                f"labels from {low} to {high}, and {len(names)} class names",
                allowed="labels that are positions in `class_names`, from 0 on",
            )

    def __repr__(self) -> str:
        there = f"{len(self.images)} pictures, {len(self.class_names or ())} classes"
        return f"LabeledImages({there}, source={self.source!r}, split={self.split!r})"

    def _check_kinds(self) -> None:
        """Refuse pictures and names that are none, by the argument's name.

        Raises:
            DatasetError: with what is allowed.
        """
        if isinstance(self.images, str | Mapping) or not isinstance(self.images, Iterable):
            rule = "a list of pictures, or one tensor (N, C, H, W)"
            raise DatasetError(f"images={short_form(self.images)} of type {type(self.images).__name__}", allowed=rule)
        names = self.class_names
        if isinstance(names, str) or not (names is None or hasattr(names, "__len__")):
            given = f"class_names={short_form(names)} of type {type(names).__name__}"
            raise DatasetError(given, allowed="a list with the name of each class")
        for name in ("source", "split"):
            check_kind(getattr(self, name), name, str, allowed="a text", optional=False, error=DatasetError)
        parse_color(self.background)

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
        check_function(progress, "progress", TOLD, error=DatasetError)
        if not isinstance(self.images, Tensor):
            return read_batch(self.images, preprocessing, background=self.background, progress=progress)
        shorter = preprocessing.shorter_side
        parts = (prepare(part, background=self.background) for part in self.images.split(256))
        images = torch.cat([fit(reduce(part, shorter), preprocessing) for part in parts])
        return PictureBatch(images, torch.arange(len(images)))

    def select(self, places: Tensor) -> LabeledImages:
        """The pictures at some positions (M,), with the names of the classes that occur among them."""
        if isinstance(self.images, Tensor):
            images: Sequence[Image | Tensor] | Tensor = self.images[places]
        elif isinstance(self.images, LazyPictures):
            images = self.images.chosen(places.tolist())
        else:
            images = [self.images[place] for place in places.tolist()]
        present, labels = torch.unique(self.labels[places], return_inverse=True)
        return replace(self, images=images, labels=labels, class_names=[self.class_names[i] for i in present.tolist()])

    def readable(self, progress: Progress | None = None) -> tuple[LabeledImages, list[PictureError]]:
        """The pictures that can be read, found by reading each once, and why the others cannot.

        Raises:
            DatasetError: none of them can be read.
        """
        check_function(progress, "progress", TOLD, error=DatasetError)
        if isinstance(self.images, Tensor):
            return self, []
        batch = read_batch(self.images, Preprocessing(1), progress=progress, keep_going=True)
        errors = list(batch.errors.values())
        if errors and not len(batch.places):
            raise DatasetError(f"none of the {len(self)} pictures of {self.source} can be read: {errors[0]}")
        return (self.select(batch.places) if errors else self), errors


def _places(labels: object) -> Tensor:
    """Labels (N,) that are whole numbers, as a tensor.

    Raises:
        DatasetError: other labels.
    """
    try:
        found = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError):  # torch's words for a text and for None
        found = torch.empty(0, 0)
    is_whole = not (found.is_floating_point() or found.is_complex() or found.dtype == torch.bool)
    if found.ndim == 1 and (is_whole or not len(found)):
        return found.long()
    raise DatasetError(
        f"labels={short_form(labels)}",
        allowed="one whole number per picture, its class's position in `class_names`",
        action="[class_names.index(name) for name in names]",
    )


@dataclass
class FolderImages:
    """Pictures of a folder: their paths, the pictures, and the names of their class folders where each lies in one."""

    paths: list[Path]
    images: LazyPictures
    labels: list[str] | None


def load_labeled_images(
    source: str | Path,
    *,
    split: str | None = None,
    splits: Sequence[str] = SPLIT_ORDER,
    image_column: str | None = None,
    label_column: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | None = None,
    flags: DataFlags = FLAGS,
) -> LabeledImages:
    """Load pictures with labels.

    Args:
        source: A `datasets` id `org/name` (or `org/name:configuration`), a Parquet file, a folder of Parquet files, or
            a folder of pictures with a folder per class, under a folder per split or not (see
            `hf_free.evaluation.picture_folder`); `./folder:configuration` for one of several. A local path asks no
            network.
        split: Which split; None takes the first of `splits` that is there.
        splits: Names of splits in the order of preference: by default test, validation (valid, val,
            dev), train.
        image_column: Name of the column of pictures; found by its type or name where not given.
        label_column: Name of the column of labels (class, string or integer), likewise.
        revision: Revision of a Hub data set.
        token: Access token for the Hub.
        cache_dir: Folder of the `datasets` cache, for Hub data sets.
        flags: What messages tell the user to write.

    Raises:
        DatasetError: no such data set, split or column, or columns that cannot be told apart.
    """
    if not isinstance(source, str | Path) or (problem := why_no_path(str(source))):
        given = f"the data set {short_form(source)} " + (problem if isinstance(source, str | Path) else "is no text")
        raise DatasetError(given, allowed="a datasets id org/name, a Parquet file, or a folder")
    check_texts(
        DatasetError,
        split=split,
        image_column=image_column,
        label_column=label_column,
        revision=revision,
        token=token,
    )
    check_cache_dir(cache_dir)
    text = str(source)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        by_column = image_column is not None or label_column is not None
        opened = open_data(text, scratch, revision=revision, token=token, cache_dir=cache_dir, by_column=by_column)
        if isinstance(opened, PictureFolder):
            for column, known in ((image_column, "image"), (label_column, "label")):
                if column not in (None, known):
                    rule = "image, label, as a folder of pictures has them"
                    raise DatasetError(f"{text} has no column {column!r}", allowed=rule, action="name no column")
            return _images_of_folder(opened, text, split, splits, flags)
        chosen = _choose_split(list(opened.splits), split, text, splits, flags)
        data = opened.splits[chosen]
        features = data.features
        if features is None:
            raise DatasetError(f"{text} has no pictures in split {chosen}", action="check the folder's files")
        image_column = find_column(features, image_column, "image", text, flags)
        label_column = find_column(features, label_column, "label", text, flags)
        if image_column == label_column:
            raise DatasetError(
                f"{text}: the column {image_column} for both pictures and labels",
                allowed="two columns",
                action=f"{flags.image_column}, {flags.label_column}",
            )
        data = data.select_columns([image_column, label_column])
        if not isinstance(data, ParquetSplit):
            data = undecoded(data, image_column)
        if opened.is_streamed:
            rows = _rows(data, text)
            encoded, values = [row[image_column] for row in rows], [row[label_column] for row in rows]
        else:
            encoded, values = data[image_column], list(data[label_column])
    where = f"{text}, split {chosen}, column {label_column}"
    names, labels = index_classes(values, features[label_column], where, flags, others=len(opened.splits) > 1)
    _say_alike(names, text)
    calls = [f"{text}, picture {index}" for index in range(len(labels))]
    pictures = LazyPictures(encoded, calls, number_type(features[image_column]), opened.within)
    rest = _others(opened.splits, chosen)
    return LabeledImages(pictures, labels, names, source=text, split=chosen, others=rest)


def _rows(data: Any, source: str) -> list[Mapping[str, Any]]:
    """All rows of a split, in memory.

    Raises:
        DatasetError: files that cannot be read, in the words for those that `datasets` reads.
    """

    def read() -> list[Mapping[str, Any]]:
        return list(data)

    if isinstance(data, ParquetSplit):
        with suppress(Exception):
            return read()
    return read_or_explain(read, source)


def load_folder_images(folder: str | Path) -> FolderImages:
    """Read all pictures below a folder, whether they lie in class folders or not, as
    `hf_free.evaluation.picture_folder` does.

    Labels are the names of class folders where every picture lies in one.

    Raises:
        DatasetError: no such folder, one that cannot be looked into, or no pictures in it.
    """
    found = read_picture_folder(Path(folder))
    if not found.files:
        packed = archives_among([file.name for file in visible_files(found.root)])
        raise DatasetError(
            f"{folder} holds no pictures",
            allowed=f"files {', '.join(sorted(PICTURE_SUFFIXES))}"
            + (f"; it holds {found.left_out[0]}" if found.left_out else ""),
            action=f"unpack {listed(packed)}, and give that folder" if packed else "",
        )
    if note := found.notes(str(folder), need_classes=False):
        logger.warning("%s", note)
    paths, labels = [file.path for file in found.files], [file.label for file in found.files]
    return FolderImages(paths, _files(paths), labels if all(labels) else None)


def _images_of_folder(
    folder: PictureFolder, source: str, split: str | None, order: Sequence[str], flags: DataFlags
) -> LabeledImages:
    """The pictures of class folders; what is passed over is logged once."""
    folder.check_clear()
    if not folder.splits:
        raise DatasetError(
            f"{source} holds {len(folder.files)} pictures and no class folders",
            allowed="a folder per class, named by the class",
            action=f"move the pictures into folders, as {source}/cat/1.jpg",
        )
    if note := folder.notes(source):
        logger.warning("%s", note)
    by_name = {name or "train": name for name in folder.splits}  # as `datasets` calls what has no splits
    chosen = _choose_split(list(by_name), split, source, order, flags)
    files = folder.of(by_name[chosen])
    names = sorted({file.label for file in files})
    _say_alike(names, source)
    positions = {name: index for index, name in enumerate(names)}
    labels = torch.tensor([positions[file.label] for file in files])
    rest = _others(by_name, chosen)
    return LabeledImages(_files([file.path for file in files]), labels, names, source, chosen, others=rest)


def _say_alike(names: Sequence[str], source: str) -> None:
    """Warn of classes that were perhaps meant to be one, and of one without a name, which may be of no class."""
    if found := alike(names):
        shown = "; ".join(", ".join(map(repr, same)) for same in found[:3])
        logger.warning("%s: classes whose names look alike: %s", source, shown)
    if any(not name.strip() for name in names):
        logger.warning("%s: a class without a name: are its pictures of no class?", source)


def _others(splits: Iterable[str], chosen: str) -> tuple[str, ...]:
    return tuple(sorted(name for name in splits if name != chosen))


def _files(paths: Sequence[Path]) -> LazyPictures:
    """Pictures of files, which errors call by their paths."""
    names = [str(path) for path in paths]
    return LazyPictures(names, names)


def _choose_split(
    names: list[str],
    wanted: str | None,
    source: str,
    order: Sequence[str] = SPLIT_ORDER,
    flags: DataFlags = FLAGS,
) -> str:
    """The split that was asked for, else the first in order of preference, else the only one; `val` and `Val` are
    `validation`."""
    if wanted is not None:
        if wanted in names:
            return wanted
        meant = [name for name in names if _plain_split(name) == _plain_split(wanted)]
        if len(meant) == 1:
            return meant[0]
        action = flags.split.replace("NAME", names[0])
        raise DatasetError(f"{source} has no split {wanted!r}", allowed=", ".join(names), action=action)
    for name in order:
        same = [other for other in names if other == name] or [
            other for other in names if _plain_split(other) == _plain_split(name)
        ]
        if same:
            return same[0]
    if len(names) == 1:
        return names[0]
    raise DatasetError(
        f"{source} has the splits {', '.join(names)}",
        allowed="one of them",
        action=flags.split.replace("NAME", names[0]),
    )


def _plain_split(name: str) -> str:
    """A split's name in lower case, and as `datasets` has it."""
    return SPLIT_WORDS.get(name.casefold(), name.casefold())
