"""Loss curves: a panel for each number of a run's log."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import MaxNLocator

from hf_free.reporting.style import (
    ACCENT,
    ACCENT_LIGHT,
    INK,
    MUTED,
    RULE,
    new_figure,
    plain_text,
    save_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLES = {
    "cross_entropy": "FIVE: cross-entropy",
    "batchnorm": "FIVE: BatchNorm distance",
    "donor_batchnorm": "FIVE: BatchNorm distance to a donor",
    "canvas_distance": "FIVE: distance to the canvas",
    "adversarial": "FIVE: disagreement, × -1",
    "total_variation": "FIVE: total variation",
    "feature_norm": "FIVE: feature norm",
    "similarity_hinge": "FIVE: similarity within classes",
    "teacher_accuracy": "FIVE: accuracy of the teacher",
    "diversity": "FIVE: diversity within classes",
    "answers": "BELL: error of the answers",
    "distillation": "BELL: distillation",
    "gradient_cosine": "BELL: cosine of gradients",
    "replay_accuracy": "BELL: accuracy in replay",
    "replay_updates": "BELL: updates of replay",
    "teachers_met": "TGR: teachers inverted before groups",
    "task_loss": "TGR: loss on new tasks",
    "dispersion": "TGR: dispersion of gradients",
    "made_harder": "PURER: whether pictures are made harder",
}
"""Titles of the log's terms above their curves; other terms go by their own names."""
_NOT_CURVES = frozenset({"memory", "step", "steps", "epoch", "time", "timestamp", "seconds", "minutes", "seed"})


def loss_curves(log_rows: Sequence[Mapping[str, float]], path: str | Path, *, title: str = "Training") -> Path:
    """Draw one panel for each number of the log against the step: the values, and their running mean on top.

    Args:
        log_rows: Lines of the log; each has `step` (else its position counts) and any numbers under any names.
        path: File to write (PNG).
        title: Line above the panels.

    Returns:
        The path written.
    """
    curves = log_curves(log_rows)
    columns = min(3, max(1, len(curves)))
    lines = max(1, math.ceil(len(curves) / columns))
    width, height = 3.3 * columns + 0.3, 2.15 * lines + 0.75
    figure = new_figure(width, height, title)
    if not curves:
        figure.text(0.5, 0.4, "nothing was logged", color=MUTED, ha="center")
        return save_figure(figure, path)
    panels = figure.subplots(lines, columns, squeeze=False)
    for axes in panels.flat[len(curves) :]:
        axes.set_visible(False)
    limits = range_of_steps([steps for steps, _ in curves.values()])
    for axes, (name, (steps, values)) in zip(panels.flat, curves.items(), strict=False):
        _draw_curve(axes, name, steps, values)
        axes.set_xlim(*limits)
    figure.subplots_adjust(
        left=0.55 / width, right=1 - 0.2 / width, bottom=0.4 / height, top=1 - 0.75 / height, wspace=0.3, hspace=0.5
    )
    return save_figure(figure, path)


def log_curves(log_rows: Sequence[Mapping[str, float]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
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


def range_of_steps(positions: Sequence[np.ndarray]) -> tuple[float, float]:
    """One range of steps for all panels, so that what ends early is seen to end early."""
    first, last = min(p.min() for p in positions), max(p.max() for p in positions)
    margin = 0.05 * (last - first) or 1.0
    return float(first - margin), float(last + margin)


def _draw_curve(axes: Axes, name: str, steps: np.ndarray, values: np.ndarray) -> None:
    smooth = running_mean(values, len(values) // 20)  # none for a few values: a mean would hide them
    last = values[-1]
    marker = "o" if len(values) == 1 else None
    axes.plot(steps, values, color=ACCENT_LIGHT, linewidth=0.9, marker=marker, markersize=3)
    axes.plot(steps, smooth, color=ACCENT, linewidth=1.6)
    axes.set_title(plain_text(TITLES.get(name, name), 34), size=8.5, color=INK, loc="left")
    axes.set_xlabel("step", size=7, color=MUTED, labelpad=1)
    shown = f"{last:.0f}" if abs(last) >= 1000 else f"{last:.3g}"
    axes.set_title(shown, size=8, color=ACCENT, loc="right", weight="bold")  # where it covers no curve
    axes.tick_params(labelsize=7, colors=MUTED, length=0)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.grid(color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.margins(y=0.15)
    for side in axes.spines.values():
        side.set_visible(False)


def running_mean(values: np.ndarray, reach: int) -> np.ndarray:
    """Mean over at most `reach` values on both sides of each."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    positions = np.arange(len(values))
    first, last = np.maximum(positions - reach, 0), np.minimum(positions + reach + 1, len(values))
    return (sums[last] - sums[first]) / (last - first)
