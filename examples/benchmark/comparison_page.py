"""A page of tables, curves and pictures: one self-contained HTML file, or Markdown without the pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from markupsafe import Markup

from hf_free.reporting.report_page import line_mark, render_page
from hf_free.reporting.vector_plots import curves_svg

TEMPLATE = Path(__file__).with_name("page.html.jinja")


@dataclass(frozen=True)
class PageTable:
    """A table; the first cell of a row names it."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """The table in Markdown, its caption above."""
        lines = [_row(self.columns), "|---" * len(self.columns) + "|", *map(_row, self.rows)]
        return "\n".join([f"*{self.caption}*", "", *lines])


@dataclass(frozen=True)
class Curves:
    """Values against seconds, one line per row."""

    title: str
    series: Mapping[str, Sequence[tuple[float, float]]]
    """Row -> points (seconds, value); every row of the section, also one without a point."""
    svg: Markup = field(init=False)

    def __post_init__(self) -> None:
        arrays = {name: np.array(points).reshape(-1, 2).T for name, points in self.series.items()}
        pairs = {name: (values[0], values[1]) for name, values in arrays.items()}
        key = "".join(character if character.isalnum() else "-" for character in self.title)
        object.__setattr__(self, "svg", Markup(curves_svg(self.title, pairs, key=key, unit="second")))

    def table(self) -> PageTable:
        """The same in words: each row's points."""
        rows = [
            (name, ", ".join(f"{value:.1f} at {seconds:.0f} s" for seconds, value in points))
            for name, points in self.series.items()
            if points
        ]
        return PageTable(self.title, ("row", "accuracy at seconds of training"), rows)


@dataclass(frozen=True)
class Picture:
    """A picture on the page."""

    source: str
    """As in `src`: a data URI."""
    caption: str
    alt: str


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    texts: Sequence[str] = ()
    tables: Sequence[PageTable] = ()
    curves: Sequence[Curves] = ()
    pictures: Sequence[Picture] = ()
    """Strips of small pictures, side by side."""
    views: Sequence[Picture] = ()
    """Large pictures, one below the other."""

    @property
    def marks(self) -> list[tuple[Markup, str]]:
        """The legend of the curves."""
        names = list(self.curves[0].series) if self.curves else []
        return [(line_mark(place), name) for place, name in enumerate(names)]

    def markdown(self) -> str:
        """The section in Markdown; curves as tables, pictures counted."""
        parts = [f"## {self.title}", *self.texts, *(table.markdown() for table in self.tables)]
        parts += [curves.table().markdown() for curves in self.curves]
        left_out = len(self.pictures) + len(self.views)
        parts += [f"On the HTML page only: {left_out} picture{'' if left_out == 1 else 's'}."] if left_out else []
        return "\n\n".join(parts)


def as_html(title: str, sections: Sequence[Section]) -> str:
    """The page as HTML; it needs no network, no script and no other file."""
    return render_page(TEMPLATE.read_text(encoding="utf-8"), title=title, sections=sections)


def as_markdown(title: str, sections: Sequence[Section]) -> str:
    """The page as Markdown."""
    return "\n\n".join([f"# {title}", *(section.markdown() for section in sections)]) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
