"""What a report page shows of a run: its record, its log, and pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from hf_free.provenance.learner_record import LearnerRecord
from hf_free.provenance.reading import Json
from hf_free.publishing.facts import Fact, record_facts, result_facts
from hf_free.runtime.notebook import cell_html

TILE, GAP = 96, 2
"""Most pixels per side of a recovered picture on the page; pixels between two pictures."""


@dataclass(frozen=True)
class ClassPictures:
    """Pictures recovered for one class of a teacher."""

    teacher: str
    """The teacher's name on the page."""
    label: str
    """The class's."""
    pixels: np.ndarray
    """(N, H, W, 3) uint8."""

    def strip(self, places: int) -> np.ndarray:
        """The pictures in a row as one, (h, w, 4) uint8, see-through between them.

        Large pictures are reduced by a whole factor (mean of each block of pixels).

        Args:
            places: Room for this many, so that the strips of a page are of one scale.
        """
        factor = math.ceil(max(self.pixels.shape[1:3]) / TILE)
        tiles = [np.asarray(Image.fromarray(picture).reduce(factor)) for picture in self.pixels]
        high, wide = tiles[0].shape[:2]
        strip = np.zeros((high, places * (wide + GAP) - GAP, 4), np.uint8)
        for place, tile in enumerate(tiles):
            left = place * (wide + GAP)
            strip[:, left : left + wide, :3], strip[:, left : left + wide, 3] = tile, 255
        return strip


@dataclass(frozen=True)
class ClassMap:
    """Pictures of some classes in the plane."""

    points: np.ndarray
    """(N, 2)."""
    labels: np.ndarray
    """(N,) which of `names` each picture belongs to."""
    names: Sequence[str]
    """A name per class."""


@dataclass(frozen=True)
class ReportedRun:
    """A run, or a learner that was made without one."""

    name: str
    """Its name on the page."""
    record: LearnerRecord
    """The record as it may be published; for an unfinished run, what is known so far."""
    is_finished: bool = True
    is_pooled: bool = False
    log: Sequence[Json] = ()
    """Rows of its log."""
    recovered: Sequence[ClassPictures] = ()
    """Some of the recovered pictures, by teacher and class."""
    classes_in_all: int = 0
    """Number of classes with kept pictures."""
    pictures_in_all: int = 0
    """Recovered pictures kept in all."""
    class_map: ClassMap | None = None
    """The learner's view of some classes; None where it could not be drawn."""
    views: bytes = b""
    """PNG of the same pictures as several teachers see them; empty where there is none."""
    teachers: Sequence[str] = field(default_factory=tuple)
    """What each teacher of the record is called on the page."""

    def _repr_html_(self) -> str:
        """What a notebook shows of it."""
        return cell_html(f"Run {self.name}" + ("" if self.is_finished else ", not finished"), self._facts)

    def _facts(self) -> list[Fact]:
        return [*record_facts(self.record), *result_facts(self.record)]
