"""The grid of recovered images: one row per class, framed in the color of the teacher's confidence."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle
from torch import Tensor

from hf_free.reporting.style import ACCENT, INK, MUTED, RULE, new_figure, plain_text, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Doubt to certainty: orange to teal over gray, told apart under the common color blindnesses; the number is printed.
CONFIDENCE = LinearSegmentedColormap.from_list("confidence", ["#ea580c", "#cbd5e1", ACCENT])

KEY = "number and frame: how sure the teacher is of the class; orange 0 %, gray 50 %, teal 100 %"


def recovered_grid(
    images: Tensor,
    labels: Tensor,
    *,
    class_names: Sequence[str],
    confidence: Tensor | None = None,
    path: str | Path,
    title: str,
    per_class: int = 10,
    max_classes: int = 40,
) -> Path:
    """Draw recovered images, one row per class, most confident first, framed in the color of the confidence.

    Args:
        images: uint8 of shape (N, C, H, W), C 1 or 3.
        labels: Class index of each image, shape (N,).
        class_names: Name of each class index.
        confidence: The teacher's probability of the label for each image, shape (N,), in [0, 1]; printed in percent.
        path: File to write (PNG).
        title: Line above the grid.
        per_class: Most images per row.
        max_classes: Most rows; the title says how many are left out.

    Returns:
        The path written.

    Raises:
        ValueError: images of another type or shape, or lengths that differ.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"images are {tuple(images.shape)} {images.dtype}; (N, 1 or 3, H, W) uint8 is needed")
    if len(images) == 0 or len(labels) != len(images) or (confidence is not None and len(confidence) != len(images)):
        raise ValueError(f"{len(images)} images need as many labels and confidences, and at least one")
    shown = torch.unique(labels).tolist()
    if len(shown) > max_classes:
        title = f"{title} (first {max_classes} of {len(shown)} classes)"
        shown = shown[:max_classes]
    rows = [_most_confident(labels, confidence, label)[:per_class] for label in shown]
    columns = max(len(row) for row in rows)

    names = [plain_text(class_names[label] if label < len(class_names) else f"class {label}", 30) for label in shown]
    cell, caption = 0.62, 0.17 if confidence is not None else 0.08  # inches
    left, margin = 0.3 + 0.078 * max(len(name) for name in names), 0.18
    width = max(left + columns * cell + margin, 2.2)
    lines = textwrap.wrap(title, int((width - 0.36) / 0.1))  # not widened for a title: mostly empty
    top = 0.62 + 0.18 * max(0, len(lines) - 1)
    key = textwrap.wrap(KEY, int((width - 0.36) / 0.052)) if confidence is not None else []
    height = top + len(rows) * (cell + caption) + margin + 0.13 * len(key)
    figure = new_figure(width, height, "\n".join(lines))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    pictures = _as_rgb(images)
    for row, (name, members) in enumerate(zip(names, rows, strict=True)):
        y = top + row * (cell + caption)
        axes.text(left - 0.12, y + cell / 2 - 0.03, name, size=8.5, color=INK, ha="right", va="center")
        for column, index in enumerate(members.tolist()):
            x = left + column * cell
            _draw_cell(axes, pictures[index], x, y, cell - 0.07)
            if confidence is not None:
                _draw_confidence(axes, float(confidence[index]), x, y, cell - 0.07)
    if key:
        axes.text(width - margin, height - 0.1, "\n".join(key), size=6, color=MUTED, ha="right", va="bottom")
    return save_figure(figure, path)


def _most_confident(labels: Tensor, confidence: Tensor | None, label: int) -> Tensor:
    """Indices of one class's images, most confident first; NaN counts as no confidence."""
    members = torch.nonzero(labels == label).flatten().cpu()
    if confidence is None:
        return members
    return members[confidence.detach().float().cpu().nan_to_num(0)[members].argsort(descending=True, stable=True)]


def _as_rgb(images: Tensor) -> np.ndarray:
    """(N, 1 or 3, H, W) uint8 -> (N, H, W, 3) uint8."""
    return images.detach().cpu().expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()


def _draw_cell(axes: Axes, picture: np.ndarray, x: float, y: float, size: float) -> None:
    axes.imshow(picture, extent=(x, x + size, y + size, y), interpolation="nearest", aspect="auto", zorder=2)


def _draw_confidence(axes: Axes, value: float, x: float, y: float, size: float) -> None:
    known = math.isfinite(value)
    color = CONFIDENCE(value) if known else RULE
    axes.add_patch(Rectangle((x, y), size, size, fill=False, edgecolor=color, linewidth=2.2, zorder=3))
    text = f"{100 * value:.0f} %" if known else "–"
    axes.text(x + size / 2, y + size + 0.03, text, size=5.5, color=MUTED, ha="center", va="top")
