"""What all pictures share: colors, an empty figure with a title, a file, and text that is only text."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hf_free.runtime.files import write_file
from hf_free.runtime.text import one_line

INK, MUTED, RULE = "#1f2430", "#6b7280", "#e5e7eb"
ACCENT, ACCENT_LIGHT = "#0f766e", "#99d5cf"
DPI = 150
"""Pixels per inch."""


def new_figure(width: float, height: float, title: str = "") -> Figure:
    """An empty white figure on an Agg canvas; sizes in inches."""
    figure = Figure(figsize=(width, height), facecolor="white", layout=None)
    FigureCanvasAgg(figure)
    if title:
        title = "\n".join(map(plain_text, title.split("\n")))
        figure.text(0.18 / width, 1 - 0.2 / height, title, size=11, weight="bold", color=INK, va="top")
    return figure


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG, whole or not at all, making its folder where there is none; returns the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, lambda scratch: figure.savefig(scratch, dpi=DPI, facecolor="white", format="png"))
    return path


def plain_text(text: str, length: int | None = None) -> str:
    """One line of plain text: class names are data, not matplotlib's mathematics between dollar signs.

    A text that is too long loses its middle, since names differ at either end.
    """
    text = one_line(text)
    if length is not None and len(text) > length:
        text = f"{text[: length // 2]}…{text[length // 2 + 1 - length :]}"
    return text.replace("$", r"\$")
