"""Rows of facts that fit every terminal without a cut word: a table, or a paragraph per row where that is too wide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hf_free.cli.console import plain

_FRAME = 3
"""Columns that a table's column takes besides its text; the table takes one more."""


@dataclass(frozen=True)
class Rows:
    """A table whose columns are never narrower than their longest word; the first column names the row.

    The lines of a value of several lines are not broken either.

    Where the window is too narrow for that, each row is its name and, below it, the other columns as "title: value".

    Attributes:
        columns: Titles.
        rows: As many values each; only text, or `rich.text.Text`.
        title: Line above; empty for none.
        caption: Line below; empty for none.
        numbers: Titles of columns that stand on the right.
        lines: Whether rules stand between the rows of a table.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    title: str = ""
    caption: str = ""
    numbers: frozenset[str] = frozenset()
    lines: bool = False
    _cells: list[list[Text]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        cells = [[value if isinstance(value, Text) else plain(value) for value in row] for row in self.rows]
        object.__setattr__(self, "_cells", cells)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table, or the paragraphs, by the width that there is."""
        room = options.max_width - 1 - _FRAME * len(self.columns)
        widths = self._widths(room)
        if widths is None:
            yield from self._paragraphs()
        else:
            yield self._table(widths)

    def _widths(self, room: int) -> list[int] | None:
        """Widths of the columns, the widest narrowed first; None where words would have to be cut."""
        texts = [[title, *(row[place].plain for row in self._cells)] for place, title in enumerate(self.columns)]
        least = [max(cell_len(part) for text in column for part in _whole(text)) for column in texts]
        widths = [max(cell_len(line) for text in column for line in text.split("\n")) for column in texts]
        while sum(widths) > room:
            wide = [place for place in range(len(widths)) if widths[place] > least[place]]
            if not wide:
                return None
            widths[max(wide, key=lambda place: widths[place])] -= 1
        return widths

    def _table(self, widths: Sequence[int]) -> Table:
        table = Table(title=plain(self.title) if self.title else None, title_justify="left", show_lines=self.lines)
        if self.caption:
            table.caption, table.caption_justify = self.caption, "left"
        for title, width in zip(self.columns, widths, strict=True):
            table.add_column(title, justify="right" if title in self.numbers else "left", width=width, overflow="fold")
        for row in self._cells:
            table.add_row(*row)
        return table

    def _paragraphs(self) -> RenderResult:
        if self.title:
            yield Text(self.title, style="italic")
        for row in self._cells:
            yield Text.assemble(row[0], style="bold", overflow="fold")
            facts = [(title.replace("\n", " "), value) for title, value in zip(self.columns, row, strict=True)][1:]
            several = [value for _, value in facts if "\n" in value.plain]
            single = [Text.assemble(f"{title}: ", value) for title, value in facts if value not in several and value]
            if single:
                yield Padding(Text("; ").join(single), (0, 0, 0, 2))
            for value in several:
                yield Padding(value, (0, 0, 0, 2))
        if self.caption:
            yield Text(self.caption, style="dim")


def _whole(text: str) -> list[str]:
    """The parts of a text that may not be broken."""
    return text.split("\n") if "\n" in text else text.split() or [""]
