"""`hf-free methods`: the published systems that can be trained, with their papers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table

from hf_free.cli import options
from hf_free.cli.console import output_console, plain, say, write_json

if TYPE_CHECKING:
    from hf_free.methods.base import Method

EXAMPLES = options.examples("hf-free methods", "hf-free methods --json", "hf-free train --method paper --models ID ID")


def methods(as_json: options.Json = False) -> None:
    """List the methods: what each is, its paper, what it needs of a teacher, and where it departs from the paper."""
    from hf_free.methods.registry import list_methods

    known = list_methods()
    if as_json:
        write_json([{**method.facts.to_dict(), "needs": method.needs} for method in known])
        return
    output_console().print(Group(*(_table(method) for method in known)))
    say("Choose one with hf-free train --method NAME; docs/methods/constants.md has the constants of each.")


def _table(method: Method) -> Table:
    """One method, a fact per line."""
    table = Table.grid(padding=(0, 2))
    table.title, table.title_justify, table.title_style = plain(method.name), "left", "bold"
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    facts = [("What", method.title), ("Paper", f"{method.paper}\n{method.url}"), ("Needs", method.needs)]
    for name, fact in (*facts, *(("Departs", departure) for departure in method.departures)):
        table.add_row(name, plain(fact))
    table.add_row("", "")
    return table
