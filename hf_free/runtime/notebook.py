"""What a notebook's cell shows of an object: a small table, in which every text is only text.

A display method that raises stops a notebook that is run without a window (nbclient). `cell_html` never does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape

from hf_free.runtime.text import printable

Rows = Iterable[tuple[str, str]]
"""Names and values."""


def cell_html(title: str, rows: Callable[[], Rows]) -> str:
    """A caption and a table.

    Args:
        title: What the object is.
        rows: Gives the table's lines; where it raises, the cell says so in one line.

    Returns:
        HTML without style sheets, scripts or addresses, for `_repr_html_`.
    """
    try:
        lines = [f'<tr><th scope="row">{_text(name)}</th><td>{_text(value)}</td></tr>' for name, value in rows()]
    except Exception as error:
        lines = [f"<tr><td>It cannot be shown: {_text(type(error).__name__)}</td></tr>"]
    return f"<table><caption>{_text(title)}</caption><tbody>{''.join(lines)}</tbody></table>"


def _text(value: object) -> str:
    return escape(printable(value))
