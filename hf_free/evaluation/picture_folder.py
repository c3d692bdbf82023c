"""The pictures of a local folder and the class of each: one reading for every verb.

A class is a folder with pictures, at any depth below it, and is named by that folder. Class folders lie in the folder
that was given, or in its split folders. A split folder is a first-level folder that is named as a split
(`SPLIT_WORDS`) and itself holds class folders; a layout with splits has no other folders with pictures. Names mean
nothing else: a class may be called `train`, and a picture `test_7.png`. `datasets` would make splits of both and lose
the rest.

Hidden files, and what systems and archives leave behind, are ignored. Everything else that is not used is counted.
"""

from __future__ import annotations

import mimetypes
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from hf_free.data.decoding import is_picture_file
from hf_free.errors import DatasetError

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
"""Names of split folders, in any case, and which split each is, as `datasets` has it."""

_LEFTOVERS = frozenset(
    {"__macosx", "@eadir", "__pycache__", "$recycle.bin", "system volume information", "lost+found"}
)
_LISTED = 5  # names in a message

OTHER_PICTURES = frozenset({".jxl", ".svg", ".psd", ".raw", ".dng", ".cr2", ".nef", ".arw"})
"""Endings of picture files that Python's own table may lack."""


@dataclass(frozen=True)
class PictureFile:
    """A picture, the class folder and the split folder it lies in; "" where it lies in none."""

    path: Path
    label: str = ""
    split: str = ""


@dataclass(frozen=True)
class PictureFolder:
    """All pictures below a folder.

    Attributes:
        root: The folder.
        files: The pictures, sorted: split by split, class by class; those without a class first.
        empty_classes: Class folders without a picture, by their path below the root.
        left_out: What else is not used, one phrase each.
        deep: Pictures that lie in folders within their class folder.
        unclear: Folders named as splits that hold class folders, beside others with pictures: "" if there are none.
    """

    root: Path
    files: list[PictureFile]
    empty_classes: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    deep: int = 0
    unclear: str = ""

    @property
    def splits(self) -> list[str]:
        """Names of the split folders, as they are written; one empty name where there are none."""
        return list(dict.fromkeys(file.split for file in self.files if file.label))

    def of(self, split: str) -> list[PictureFile]:
        """The pictures with a class in a split."""
        return [file for file in self.files if file.label and file.split == split]

    def check_clear(self) -> None:
        """Refuse folders of which nobody can say whether they are splits or classes.

        Raises:
            DatasetError: with their names.
        """
        if self.unclear:
            raise DatasetError(
                f"{self.root}: {self.unclear}",
                allowed="either folders named as splits only, each with class folders, or class folders only",
                action="move the others away, or give one of the splits by its own path",
            )

    def notes(self, name: str, *, need_classes: bool = True) -> str:
        """What is passed over, and what may be read otherwise than it was meant, in one sentence; "" if there is
        nothing.

        Args:
            name: What the user calls the folder.
            need_classes: Whether pictures without a class are passed over too.
        """
        parts = list(self.left_out)
        stray = [file for file in self.files if not file.label]
        if need_classes and stray:
            where = "beside the class folders" if any(file.label for file in self.files) else "in no class folder"
            parts.append(f"{_count(len(stray), 'picture')} {where} ({_some(file.path.name for file in stray)})")
        if need_classes and self.empty_classes:
            names = _some(self.empty_classes)
            parts.append(f"{_count(len(self.empty_classes), 'class folder')} without pictures ({names})")
        said = [f"passed over {'; '.join(parts)}"] if parts else []
        if need_classes and self.deep:
            said.append(f"{_count(self.deep, 'picture')} in deeper folders count to the class folder that they lie in")
        labels = {file.label for file in self.files if file.label}
        if need_classes and labels and self.splits == [""] and all(name.casefold() in SPLIT_WORDS for name in labels):
            said.append(f"{_some(sorted(labels))} hold no class folders, so they are classes, not splits")
        return f"{name}: {'; '.join(said)}" if said else ""


def read_picture_folder(root: Path) -> PictureFolder:
    """Find every picture below a folder.

    Raises:
        DatasetError: no folder, or one that cannot be looked into.
    """
    if not root.is_dir():
        raise DatasetError(f"{root} is not a folder", action="give a folder of pictures")
    walk = _Walk(root)
    files = [PictureFile(path) for path in walk.pictures_in(root)]
    folders = walk.folders_in(root)
    below = {folder: list(walk.pictures_below(folder)) for folder in folders}
    splits = _split_folders(below)
    filled = [folder for folder in folders if below[folder]]
    held = [f.name for f in filled if _is_named_as_split(f) and _holds_class_folders(f, below[f])]
    others = [f.name for f in filled if not _is_named_as_split(f)]
    unclear = f"{_some(held)} may be splits, beside {_some(others)}" if held and others else ""
    class_folders: list[tuple[Path, str]] = [] if splits else [(folder, "") for folder in folders]
    for folder in folders if splits else ():
        if folder not in splits:  # pictures of no class, as in a folder test that only holds pictures
            files += [PictureFile(path) for path in below[folder]]
        else:
            class_folders += [(child, folder.name) for child in walk.folders_in(folder)]
    empty, deep = [], 0
    for folder, split in class_folders:
        own = list(walk.pictures_below(folder))
        files += [PictureFile(path, folder.name, split) for path in own]
        deep += sum(path.parent != folder for path in own)
        empty += [] if own else [folder.relative_to(root).as_posix()]
    files.sort(key=lambda file: (bool(file.label), file.split, file.label, file.path))
    return PictureFolder(root, files, empty, walk.left_out(), deep, unclear)


def visible_files(root: Path) -> list[Path]:
    """Every file below a folder, but for hidden ones and leftovers, sorted.

    Raises:
        DatasetError: a folder that cannot be looked into.
    """
    return sorted(_Walk(root).files_below(root))


def is_leftover(name: str) -> bool:
    """Whether a file or folder is hidden, or was left behind by a system or an archive."""
    return name.startswith(".") or name.casefold() in _LEFTOVERS


def _split_folders(below: dict[Path, list[Path]]) -> set[Path]:
    """The first-level folders that are splits: none, unless all folders with pictures are named so."""
    filled = [folder for folder, pictures in below.items() if pictures]
    if not all(map(_is_named_as_split, filled)):
        return set()
    return {folder for folder in filled if _holds_class_folders(folder, below[folder])}


def _is_named_as_split(folder: Path) -> bool:
    return folder.name.casefold() in SPLIT_WORDS


def _holds_class_folders(folder: Path, pictures: list[Path]) -> bool:
    return any(picture.parent != folder for picture in pictures)


class _Walk:
    """Looks into each folder once, follows links but never in a circle, and counts what it passes over."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._looked: dict[Path, tuple[list[Path], list[Path]]] = {}
        self._kinds: Counter[str] = Counter()
        self._circles: list[str] = []
        self._broken: list[str] = []
        self._odd: list[str] = []

    def folders_in(self, folder: Path) -> list[Path]:
        """The folders directly in a folder that do not lead back up."""
        return self._look(folder)[0]

    def pictures_in(self, folder: Path) -> list[Path]:
        """The picture files directly in a folder."""
        return [path for path in self._look(folder)[1] if is_picture_file(path)]

    def pictures_below(self, folder: Path) -> Iterator[Path]:
        """The picture files in a folder and all folders below it."""
        yield from self.pictures_in(folder)
        for child in self.folders_in(folder):
            yield from self.pictures_below(child)

    def files_below(self, folder: Path) -> Iterator[Path]:
        """All files in a folder and all folders below it."""
        yield from self._look(folder)[1]
        for child in self.folders_in(folder):
            yield from self.files_below(child)

    def _look(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """The folders and the files in a folder, sorted by name."""
        if folder not in self._looked:
            try:
                with os.scandir(folder) as entries:
                    visible = sorted((e for e in entries if not is_leftover(e.name)), key=lambda e: e.name)
                folders = [entry for entry in visible if _is_folder(entry) and not self._leads_up(folder, entry)]
                files = [entry for entry in visible if self._is_file(entry)]
            except OSError as error:
                problem = f"cannot look into the folder {folder}: {error.strerror}"
                raise DatasetError(problem, action="change its permissions, or move it") from None
            self._looked[folder] = [folder / e.name for e in folders], [folder / e.name for e in files]
        return self._looked[folder]

    def _is_file(self, entry: os.DirEntry[str]) -> bool:
        suffix = Path(entry.name).suffix.lower()
        try:
            is_file = entry.is_file()
        except OSError:  # a link to itself
            is_file = False
        if is_picture_file(entry.name):
            if not is_file and not _is_folder(entry):
                (self._broken if entry.is_symlink() and not os.path.exists(entry) else self._odd).append(entry.name)
        elif is_file and _may_be_picture(suffix):
            self._kinds[suffix] += 1
        return is_file

    def _leads_up(self, folder: Path, entry: os.DirEntry[str]) -> bool:
        """Whether a link leads to a folder that contains it, by whatever path it was reached."""
        if not entry.is_symlink():
            return False
        depth = len(folder.parts) - len(self._root.parts)
        way = [folder, *folder.parents][: depth + 1]
        target = Path(entry.path).resolve()
        is_circle = target in {step.resolve() for step in way} or target in self._root.resolve().parents
        if is_circle:
            self._circles.append(entry.name)
        return is_circle

    def left_out(self) -> list[str]:
        """What was passed over, one phrase each."""
        phrases = []
        if self._kinds:
            endings = ", ".join(f"{count} {suffix}" for suffix, count in sorted(self._kinds.items()))
            phrases.append(f"{_count(sum(self._kinds.values()), 'picture')} of other endings ({endings})")
        if self._broken:
            phrases.append(f"{_count(len(self._broken), 'link')} to no file ({_some(self._broken)})")
        if self._odd:
            phrases.append(f"{_count(len(self._odd), 'name')} of pipes, sockets or devices ({_some(self._odd)})")
        if circles := dict.fromkeys(self._circles):
            phrases.append(f"{_count(len(circles), 'link')} back to a folder above ({_some(circles)})")
        return phrases


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _may_be_picture(suffix: str) -> bool:
    """Whether other programs read a file with such an ending as a picture, though hf-free does not."""
    kind = mimetypes.guess_type(f"a{suffix}")[0] or ""
    if suffix in OTHER_PICTURES or kind.startswith("image/"):
        return True
    Image.init()
    return suffix in Image.EXTENSION and suffix not in (".pdf", ".mpg", ".mpeg", ".h5", ".hdf", ".bufr", ".grib")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _some(names: object) -> str:
    """The first names of many."""
    listed = [str(name) for name in names]  # type: ignore[attr-defined]
    return ", ".join(listed[:_LISTED]) + (", ..." if len(listed) > _LISTED else "")
