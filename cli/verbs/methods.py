"""`hf-free methods`: the published systems that can be trained, and ways to invert, with their papers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table

from hf_free.cli import options
from hf_free.cli.console import output_console, plain, print_made, say, write_json

if TYPE_CHECKING:
    from hf_free.methods.base import Method
    from hf_free.methods.inversions import Inversion

EXAMPLES = options.examples("hf-free methods", "hf-free methods --json", "hf-free train --method paper --models ID ID")


def methods(as_json: options.Json = False, quiet: options.QuietList = False) -> None:
    """List the methods: what each is, its paper, what it needs of a teacher, and where it departs from the paper.

    Below them it lists the ways to invert that --inversion can choose in place of a method's own.
    """
    from hf_free.methods.registry import list_inversions, list_methods

    known = list_methods()
    if as_json:
        write_json([{**method.facts.to_dict(), "needs": method.needs} for method in known])
        return
    if quiet:
        for method in known:
            print_made(method.name)
        return
    output_console().print(Group(*(_table(method, method.name, method.departures) for method in known)))
    output_console().print(Group(*(_table(way, f"--inversion {way.name}") for way in list_inversions())))
    say("Choose one with hf-free train --method NAME; docs/methods has a page about each.")


def _table(one: Method | Inversion, title: str, departures: Sequence[str] = ()) -> Table:
    """One method or way to invert, a fact per line."""
    table = Table.grid(padding=(0, 2))
    table.title, table.title_justify, table.title_style = plain(title), "left", "bold"
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    facts = [("What", one.title), ("Paper", f"{one.paper}\n{one.url}"), ("Needs", one.needs)]
    for name, fact in (*facts, *(("Departs", departure) for departure in departures)):
        table.add_row(name, plain(fact))
    table.add_row("", "")
    return table
