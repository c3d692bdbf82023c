"""Pictures a run leaves behind: recovered images by class, loss curves, one image set as each teacher sees it.

Everything is drawn with matplotlib's object interface on the Agg canvas: no display, no global state, so that
a training loop or a server can call it from anywhere.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, RULE = "#1f2430", "#6b7280", "#e5e7eb"
ACCENT, ACCENT_LIGHT = "#0f766e", "#99d5cf"
# Doubt to certainty: orange to teal over grey, told apart under the common colour blindnesses; the number is printed.
CONFIDENCE = LinearSegmentedColormap.from_list("confidence", ["#ea580c", "#cbd5e1", ACCENT])
_DPI = 150
_NOT_CURVES = frozenset({"memory", "step", "steps", "epoch", "time", "timestamp", "seconds", "minutes", "seed"})


def _figure(width: float, height: float, title: str = "") -> Figure:
    """An empty white figure on an Agg canvas; sizes in inches."""
    figure = Figure(figsize=(width, height), facecolor="white", layout=None)
    FigureCanvasAgg(figure)
    if title:
        title = "\n".join(map(_plain, title.split("\n")))
        figure.text(0.18 / width, 1 - 0.2 / height, title, size=11, weight="bold", color=INK, va="top")
    return figure


def _save(figure: Figure, path: str | Path) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=_DPI, facecolor="white")
    return path


def _plain(text: str, length: int | None = None) -> str:
    """One line of plain text: class names are data, not matplotlib's mathematics between dollar signs.

    What is too long loses its middle, since names differ at either end.
    """
    text = " ".join(str(text).split())
    if length is not None and len(text) > length:
        text = f"{text[: length // 2]}…{text[length // 2 + 1 - length :]}"
    return text.replace("$", r"\$")


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
    """Draw recovered images, a row a class, most confident first, framed in the colour of the confidence.

    Args:
        images: uint8 of shape (N, C, H, W), C 1 or 3.
        labels: Class index of each image, shape (N,).
        class_names: Name of each class index.
        confidence: The teacher's probability of the label for each image, shape (N,), in [0, 1]; printed in percent.
        path: File to write (PNG).
        title: Line above the grid.
        per_class: Images a row at most.
        max_classes: Rows at most; the title says how many are left out.

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

    names = [_plain(class_names[label] if label < len(class_names) else f"class {label}", 22) for label in shown]
    cell, caption = 0.62, 0.17 if confidence is not None else 0.08  # inches
    left, margin = 0.3 + 0.078 * max(len(name) for name in names), 0.18
    width = max(left + columns * cell + margin, 2.2)
    lines = textwrap.wrap(title, int((width - 0.36) / 0.1))  # a wide picture for a title's sake would be mostly empty
    top = 0.62 + 0.18 * max(0, len(lines) - 1)
    height = top + len(rows) * (cell + caption) + margin
    figure = _figure(width, height, "\n".join(lines))
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
    return _save(figure, path)


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


def loss_curves(log_rows: Sequence[Mapping[str, Any]], path: str | Path, *, title: str = "Training") -> Path:
    """Draw one panel for each number of the log against the step: the values, and their running mean on top.

    Args:
        log_rows: Lines of the log; each has `step` (else its position counts) and any numbers under any names.
        path: File to write (PNG).
        title: Line above the panels.

    Returns:
        The path written.
    """
    curves = _curves(log_rows)
    columns = min(3, max(1, len(curves)))
    lines = max(1, math.ceil(len(curves) / columns))
    width, height = 3.3 * columns + 0.3, 2.15 * lines + 0.75
    figure = _figure(width, height, title)
    if not curves:
        figure.text(0.5, 0.4, "nothing was logged", color=MUTED, ha="center")
        return _save(figure, path)
    panels = figure.subplots(lines, columns, squeeze=False)
    for axes in panels.flat[len(curves) :]:
        axes.set_visible(False)
    limits = _limits([steps for steps, _ in curves.values()])
    for axes, (name, (steps, values)) in zip(panels.flat, curves.items(), strict=False):
        _draw_curve(axes, name, steps, values)
        axes.set_xlim(*limits)
    figure.subplots_adjust(
        left=0.55 / width, right=1 - 0.2 / width, bottom=0.4 / height, top=1 - 0.75 / height, wspace=0.3, hspace=0.5
    )
    return _save(figure, path)


def _curves(log_rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Finite numbers of the log by name: steps and values. Texts, flags, clocks and nested values are no curves."""
    points: dict[str, list[tuple[float, float]]] = {}
    for position, row in enumerate(log_rows):
        step = row.get("step", position)
        for name, value in row.items():
            if name in _NOT_CURVES or isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if math.isfinite(value):
                points.setdefault(name, []).append((float(step), float(value)))
    return {name: tuple(np.array(pairs).T) for name, pairs in points.items()}  # type: ignore[misc]


def _limits(positions: Sequence[np.ndarray]) -> tuple[float, float]:
    """One range of steps for all panels, so that what ends early is seen to end early."""
    first, last = min(p.min() for p in positions), max(p.max() for p in positions)
    margin = 0.05 * (last - first) or 1.0
    return float(first - margin), float(last + margin)


def _draw_curve(axes: Axes, name: str, steps: np.ndarray, values: np.ndarray) -> None:
    smooth = _running_mean(values, max(1, len(values) // 20))
    last = values[-1]
    marker = "o" if len(values) == 1 else None
    axes.plot(steps, values, color=ACCENT_LIGHT, linewidth=0.9, marker=marker, markersize=3)
    axes.plot(steps, smooth, color=ACCENT, linewidth=1.6)
    axes.set_title(_plain(name, 40), size=8.5, color=INK, loc="left")
    axes.annotate(
        f"{last:.0f}" if abs(last) >= 1000 else f"{last:.3g}", (steps[-1], last), xytext=(-2, 4),
        textcoords="offset points", size=7, color=ACCENT, ha="right", weight="bold",
        bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
    )  # fmt: skip
    axes.tick_params(labelsize=7, colors=MUTED, length=0)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.grid(color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.margins(y=0.15)
    for side in axes.spines.values():
        side.set_visible(False)


def _running_mean(values: np.ndarray, reach: int) -> np.ndarray:
    """Mean over at most `reach` values on both sides of each."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    positions = np.arange(len(values))
    first, last = np.maximum(positions - reach, 0), np.minimum(positions + reach + 1, len(values))
    return (sums[last] - sums[first]) / (last - first)


def feature_map(
    features_by_teacher: Mapping[str, Tensor],
    labels: Tensor,
    path: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    title: str = "One image set under each teacher (t-SNE of its features)",
    seed: int = 0,
) -> Path:
    """Draw the t-SNE map of one and the same image set under each teacher, a panel a teacher, a colour a class.

    This is the picture of FREE's figure 1: teachers that were trained on different tasks order the same images
    differently. t-SNE (van der Maaten and Hinton 2008) keeps neighbourhoods, not distances between groups.

    Args:
        features_by_teacher: Features (N, D) of the same N images under each teacher; D may differ.
        labels: Class of each image, shape (N,).
        path: File to write (PNG).
        class_names: Names for the legend.
        title: Line above the panels.
        seed: Seed of t-SNE.

    Returns:
        The path written.

    Raises:
        ValueError: no teacher, fewer than four images, or lengths that differ.
    """
    if not features_by_teacher or len(labels) < 4:
        raise ValueError(f"{len(features_by_teacher)} teachers, {len(labels)} images; 1 and 4 are needed at least")
    if any(len(features) != len(labels) for features in features_by_teacher.values()):
        raise ValueError(f"every teacher needs features of all {len(labels)} images")
    columns = 3 if len(features_by_teacher) in (5, 6, 9) else min(4, len(features_by_teacher))  # no empty corner
    lines = math.ceil(len(features_by_teacher) / columns)
    width, height = 2.5 * columns + 0.36, 2.75 * lines + 1.0
    figure = _figure(max(width, 0.1 * len(title) + 0.4), height, title)
    panels = figure.subplots(lines, columns, squeeze=False)
    for axes in panels.flat:
        axes.set_visible(False)
    kinds = torch.unique(labels).tolist()
    for axes, (name, features) in zip(panels.flat, features_by_teacher.items(), strict=False):
        axes.set_visible(True)
        _draw_map(axes, _plain(name, 34), _embed(features, seed), labels.cpu().numpy(), kinds)
    handles, texts = panels.flat[0].get_legend_handles_labels()
    if class_names is not None:
        texts = [_plain(class_names[kind], 30) for kind in kinds]
    a_row = max(1, min(len(kinds), 10, int(width / (0.42 + 0.055 * max(map(len, texts))))))  # inches an entry
    a_row = math.ceil(len(kinds) / math.ceil(len(kinds) / a_row))  # rows of one length
    figure.legend(handles, texts, loc="lower center", ncols=a_row, fontsize=7, frameon=False, markerscale=2)
    below = 0.3 + 0.17 * math.ceil(len(kinds) / a_row)
    figure.subplots_adjust(
        left=0.18 / width,
        right=1 - 0.18 / width,
        bottom=below / height,
        top=1 - 0.75 / height,
        wspace=0.08,
        hspace=0.2,
    )
    return _save(figure, path)


def _embed(features: Tensor, seed: int) -> np.ndarray:
    """(N, D) -> (N, 2) by t-SNE on L2-normalised features, started from the principal components."""
    from sklearn.manifold import TSNE

    values = torch.nn.functional.normalize(features.detach().float().cpu().flatten(1), dim=1).numpy()
    perplexity = min(30.0, (len(values) - 1) / 3)
    start = "pca" if values.shape[1] >= 2 else "random"
    # half of scikit-learn's 1,000 iterations: a few hundred points have settled by then
    return TSNE(init=start, perplexity=perplexity, random_state=seed, max_iter=500).fit_transform(values)


def _draw_map(axes: Axes, name: str, points: np.ndarray, labels: np.ndarray, kinds: Sequence[int]) -> None:
    palette = colormaps["tab10" if len(kinds) <= 10 else "tab20"]
    for position, kind in enumerate(kinds):
        chosen = points[labels == kind]
        axes.scatter(
            chosen[:, 0],
            chosen[:, 1],
            s=7,
            color=palette(position % palette.N),
            alpha=0.8,
            linewidths=0,
            label=str(kind),
        )
    axes.set_title(name, size=8.5, color=INK, loc="left")
    axes.set(xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set_color(RULE)
