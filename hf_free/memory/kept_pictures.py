"""Reads a few pictures from a saved memory: the last ones of some classes, without reading the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from hf_free.data.logits import ClassKey
from hf_free.memory.bank import NO_CLASS


@dataclass(frozen=True)
class KeptClass:
    """A class of a teacher with pictures that were recovered for it."""

    key: ClassKey
    """Which teacher, which of its outputs."""
    images: Tensor
    """(N, C, H, W) uint8."""


@dataclass(frozen=True)
class KeptPictures:
    """What `read_kept` has read, and how much there is."""

    classes: tuple[KeptClass, ...]
    """In the order of teachers, then of outputs."""
    classes_in_all: int
    """Classes that have pictures in the file."""
    pictures_in_all: int
    """Recovered pictures in the file; drawn ones do not count."""


def read_kept(path: Path, *, classes: int, pictures: int) -> KeptPictures:
    """Read some classes of what `TaskMemory.save` wrote.

    Teachers take turns, so that each is seen while there is room; pictures are the last of each class in the file.

    Args:
        path: The file.
        classes: Most classes that are read.
        pictures: Most pictures of each.

    Raises:
        safetensors.SafetensorError: it is no such file.
        KeyError: it is one, but holds something else.
    """
    with safe_open(path, framework="pt") as file:
        ids = file.get_tensor("class_ids")
        keys = [ClassKey(teacher, index) for teacher, index in file.get_tensor("classes").tolist()]
        images = file.get_slice("images")
        present = [keys[position] for position in ids[ids != NO_CLASS].unique().tolist()]
        read = []
        for key in _in_turn(present)[:classes]:
            places = (ids == keys.index(key)).nonzero().flatten()[-pictures:].tolist()
            read.append(KeptClass(key, torch.stack([images[place] for place in places])))
    read.sort(key=lambda kept: _order(kept.key))
    return KeptPictures(tuple(read), len(present), int((ids != NO_CLASS).sum()))


def _order(key: ClassKey) -> tuple[int, int]:
    return key.teacher, key.index


def _in_turn(keys: Iterable[ClassKey]) -> list[ClassKey]:
    """The first class of each teacher, then the second of each, and so on."""
    seen = Counter[int]()
    turns = []
    for key in sorted(keys, key=_order):
        turns.append((seen[key.teacher], *_order(key), key))
        seen[key.teacher] += 1
    return [key for *_, key in sorted(turns, key=lambda turn: turn[:3])]
