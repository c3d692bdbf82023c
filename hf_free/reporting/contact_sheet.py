"""A contact sheet: small pictures in a grid, each with what was said of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.patches import Rectangle

from hf_free.data.decoding import PictureError, decode
from hf_free.data.images import to_float
from hf_free.reporting.image_grid import CONFIDENCE
from hf_free.reporting.style import INK, MUTED, RULE, new_figure, plain_text, save_figure
from hf_free.runtime.files import write_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 120
"""Pictures on a sheet."""

_COLUMNS, _CELL, _TEXT = 8, 1.05, 0.34
"""Pictures per row; inches of a picture and of the lines below it."""

_PIXELS = 256
"""Size to which a large picture is reduced while it is decoded; at least twice that is left."""


@dataclass(frozen=True)
class Shown:
    """A picture on a sheet.

    Attributes:
        path: The file.
        label: What it was called; "" where it has no class.
        note: A second line: a probability, or why there is no class.
        sure: Probability of the label, for the color of the frame; None draws a gray one.
    """

    path: Path
    label: str
    note: str = ""
    sure: float | None = None


def contact_sheet(pictures: Sequence[Shown], path: Path, *, title: str, most: int = MOST) -> Path:
    """Draw pictures with their labels, their shape kept; one that cannot be read has an empty frame.

    Args:
        pictures: What to show, at least one.
        path: File to write (PNG), whole or not at all.
        title: Line above; it also says how many pictures are left out.
        most: Most pictures that are shown.

    Returns:
        The path written.
    """
    shown = pictures[:most]
    if len(pictures) > most:
        title = f"{title} (first {most} of {len(pictures)})"
    columns = min(_COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    margin, top = 0.18, 0.55
    width = max(2 * margin + columns * _CELL, 0.36 + 0.085 * len(title))
    height = top + rows * (_CELL + _TEXT) + margin
    figure = new_figure(width, height, title)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    for place, picture in enumerate(shown):
        x, y = margin + place % columns * _CELL, top + place // columns * (_CELL + _TEXT)
        _draw(axes, picture, x, y)
    return write_file(path, lambda scratch: save_figure(figure, scratch))


def _draw(axes: Axes, picture: Shown, x: float, y: float) -> None:
    size = _CELL - 0.12
    pixels = _thumbnail(picture.path)
    width, height = size, size
    if pixels is not None:
        tall, wide = pixels.shape[:2]
        width, height = size * wide / max(tall, wide), size * tall / max(tall, wide)
    left, upper = x + (size - width) / 2, y + (size - height) / 2
    if pixels is not None:
        extent = (left, left + width, upper + height, upper)
        small = max(pixels.shape[:2]) < _PIXELS / 2
        axes.imshow(
            pixels, extent=extent, aspect="auto", zorder=2, interpolation="nearest" if small else "antialiased"
        )
    color = RULE if picture.sure is None else CONFIDENCE(picture.sure)
    axes.add_patch(Rectangle((left, upper), width, height, fill=False, edgecolor=color, linewidth=1.8, zorder=3))
    middle = x + size / 2
    axes.text(middle, y + size + 0.04, plain_text(picture.label, 18), size=6.5, color=INK, ha="center", va="top")
    axes.text(middle, y + size + 0.17, plain_text(picture.note, 24), size=5.5, color=MUTED, ha="center", va="top")


def _thumbnail(path: Path) -> np.ndarray | None:
    """(H, W, 3) in [0, 1], decoded as for a learner; None for a file that cannot be read."""
    try:
        pixels = to_float(decode(str(path), size=_PIXELS).pixels)
    except PictureError:
        return None
    return pixels.expand(3, -1, -1).permute(1, 2, 0).numpy()
