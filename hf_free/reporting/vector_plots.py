"""Curves and maps as inline SVG: no script, no font, no file; colors come from the page's style sheet.

Every figure is one picture to a screen reader (`role="img"`) with a title and a description. Dashes or shapes tell
series apart as well as colors do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import count

import numpy as np

from hf_free.reporting.loss_curves import range_of_steps, running_mean
from hf_free.runtime.text import one_line

SERIES = 8
"""Colors that the style sheet has, `s0` and on; more series begin anew."""

_WIDTH, _HEIGHT = 340, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 8, 24
_DASHES = ("", "6 3", "2 3", "8 3 2 3")
_MOST_POINTS = 400
"""Points of a curve; a longer one is thinned."""


_TINY = 1e-300
"""A range that is narrower has no power of ten to divide it by."""


def curves_svg(name: str, series: Mapping[str, tuple[np.ndarray, np.ndarray]], *, key: str, unit: str = "step") -> str:
    """One panel: values against steps, a line per run, smoothed as in the run's own figure.

    Args:
        name: What is drawn.
        series: Run -> steps (N,) and values (N,), N at least 1, all finite; "" where a run has none is left out.
        key: Tells this figure's ids from those of others on the page.
        unit: What the positions count, where that is not steps.

    Returns:
        An `<svg>` element.
    """
    filled = {run: pair for run, pair in series.items() if len(pair[0])}
    first, last = range_of_steps([steps for steps, _ in filled.values()])
    smooth = {run: running_mean(values, len(values) // 20) for run, (_, values) in filled.items()}
    everything = np.concatenate([*smooth.values(), *(values for _, values in filled.values())])
    ticks = _ticks(float(everything.min()), float(everything.max()))
    low, high = min(ticks[0], float(everything.min())), max(ticks[-1], float(everything.max()))
    parts = []
    for tick in ticks:
        y = _scaled(tick, high, low, _TOP, _HEIGHT - _BOTTOM)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" text-anchor="end" x="{_LEFT - 5}" y="{y + 4:.1f}">{tick:.3g}</text>')
    for tick in _whole_ticks(first, last):
        x = _scaled(tick, first, last, _LEFT, _WIDTH - _RIGHT)
        parts.append(f'<text class="tick" text-anchor="middle" x="{x:.1f}" y="{_HEIGHT - 7}">{tick:.0f}</text>')
    said = []
    for position, run in enumerate(series):
        if run not in filled:
            continue
        steps, values = filled[run]
        thin = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), _MOST_POINTS)).round().astype(int))
        place = f'class="s{position % SERIES} curve" stroke-dasharray="{_DASHES[position % len(_DASHES)]}"'
        raw, line = ([(steps[i], curve[i]) for i in thin] for curve in (values, smooth[run]))
        if len(filled) == 1:
            parts.append(f'<path class="s{position % SERIES} raw" d="{_path(raw, (first, last), (low, high))}"/>')
        parts.append(f'<path {place} d="{_path(line, (first, last), (low, high))}"/>')
        if len(steps) == 1:
            x, y = _place(raw[0], (first, last), (low, high))
            parts.append(f'<circle class="s{position % SERIES} dot" cx="{x:.1f}" cy="{y:.1f}" r="3"/>')
        said.append(f"{run}: {values[0]:.3g} at {unit} {steps[0]:.0f}, {values[-1]:.3g} at {unit} {steps[-1]:.0f}")
    return _svg(name, ". ".join(said), "".join(parts), (_WIDTH, _HEIGHT), key)


def map_svg(name: str, points: np.ndarray, labels: np.ndarray, names: Sequence[str], *, key: str) -> str:
    """Points in the plane, a color and a shape per class.

    Args:
        name: What is drawn.
        points: (N, 2).
        labels: (N,) which of `names` each is of.
        names: A name per class.
        key: Tells this figure's ids from those of others on the page.

    Returns:
        An `<svg>` element; its legend is `legend_marks`.
    """
    size, margin = 340, 12
    low, high = points.min(0), points.max(0)
    span = np.maximum(high - low, 1e-9)
    placed = margin + (points - low) / span * (size - 2 * margin)
    marks = [
        f'<path class="s{label % SERIES} mark" transform="translate({x:.1f} {y:.1f})" d="{shape(int(label))}"/>'
        for (x, y), label in zip(placed.tolist(), labels.tolist(), strict=True)
    ]
    said = f"{len(points)} pictures of {len(names)} classes: {', '.join(map(one_line, names))}"
    return _svg(name, said, "".join(marks), (size, size), key)


def shape(position: int) -> str:
    """The outline of a mark around (0, 0), as SVG path data: classes of one color differ in it."""
    shapes = (
        "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
        "M-3.5 -3.5h7v7h-7z",
        "M0 -4.6L4.2 3.4H-4.2z",
        "M0 -5L5 0L0 5L-5 0z",
        "M0 4.6L4.2 -3.4H-4.2z",
        "M-1.4 -4.4h2.8v3h3v2.8h-3v3h-2.8v-3h-3v-2.8h3z",
    )
    return shapes[position % len(shapes)]


def dashes(position: int) -> str:
    """How a series' line is broken, as SVG's `stroke-dasharray`."""
    return _DASHES[position % len(_DASHES)]


def _svg(title: str, description: str, inner: str, size: tuple[int, int], key: str) -> str:
    width, height = size
    return (
        f'<svg role="img" aria-labelledby="{key}-t {key}-d" viewBox="0 0 {width} {height}" class="plot">'
        f'<title id="{key}-t">{escape(one_line(title))}</title>'
        f'<desc id="{key}-d">{escape(one_line(description))}</desc>{inner}</svg>'
    )


def _scaled(value: float, low: float, high: float, start: float, end: float) -> float:
    return start + (value - low) / ((high - low) or 1.0) * (end - start)


def _place(
    point: tuple[float, float], x_range: tuple[float, float], y_range: tuple[float, float]
) -> tuple[float, float]:
    x = _scaled(point[0], *x_range, _LEFT, _WIDTH - _RIGHT)
    return x, _scaled(point[1], y_range[1], y_range[0], _TOP, _HEIGHT - _BOTTOM)


def _path(points: Sequence[tuple[float, float]], x_range: tuple[float, float], y_range: tuple[float, float]) -> str:
    placed = (_place(point, x_range, y_range) for point in points)
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)


def _ticks(low: float, high: float, most: int = 4) -> list[float]:
    """Round numbers from below `low` to above `high`: steps of 1, 2 or 5 times a power of ten."""
    if not high - low > _TINY:
        half = abs(low) / 2 if abs(low) > _TINY else 0.5
        low, high = low - half, high + half
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    start = math.floor(low / step)
    ticks = []
    for position in count(start):
        ticks.append(position * step)
        if position * step >= high:
            return ticks
    return ticks


def _whole_ticks(first: float, last: float) -> list[float]:
    return [tick for tick in _ticks(first, last, 6) if first <= tick <= last and tick == round(tick) and tick >= 0]
