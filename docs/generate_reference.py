"""Write docs/reference/: configuration, command line and Python, from the code itself.

python docs/generate_reference.py          writes the pages
python docs/generate_reference.py --check  says which pages differ, exit code 1
"""

from __future__ import annotations

import argparse
import html
import inspect
import re
import sys
from pathlib import Path

from rich.text import Text
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

import hf_free
from hf_free.cli.main import app
from hf_free.config.reference import configuration_markdown
from hf_free.methods.registry import list_inversions, list_methods

FOLDER = Path(__file__).resolve().parent / "reference"
NOTE = "<!-- Written by `python docs/generate_reference.py`; change the code instead. -->"


def command_line_markdown() -> str:
    """Every verb with its help, arguments and flags."""
    program = get_command(app)
    verbs = program.commands  # type: ignore[attr-defined]
    parts = ["# Command line", NOTE, "Each verb prints this with `--help`, and examples with it.", _options(program)]
    parts += ["## Verbs", "| verb | what it does |\n|---|---|\n" + "\n".join(_row(n, c) for n, c in verbs.items())]
    for name, command in verbs.items():
        parts += [f"## `hf-free {name}`", _plain(inspect.cleandoc(command.help or "")), _options(command)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _row(name: str, command: TyperCommand | TyperGroup) -> str:
    first = _plain(inspect.cleandoc(command.help or "").split("\n\n")[0])
    return f"| [`{name}`](#hf-free-{name}) | {' '.join(first.split())} |"


def _options(command: TyperCommand | TyperGroup) -> str:
    """The arguments and flags of a command as a table."""
    rows = []
    for option in command.params:
        if getattr(option, "hidden", False):
            continue
        names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
        value = "" if getattr(option, "is_flag", False) or not option.metavar else f" {option.metavar}"
        if option.param_type_name == "argument":
            names, value = f"`{option.metavar or option.name}`", ""
        text = _plain(getattr(option, "help", None) or "")
        rows.append(f"| {names}{value} | {' '.join(text.split())} |".replace("\\|", "|"))
    return "| flag | meaning |\n|---|---|\n" + "\n".join(rows) if rows else ""


def _plain(text: str) -> str:
    """Help without the terminal's markup, safe inside a Markdown table."""
    plain = Text.from_markup(text).plain
    return re.sub(r"(?<!\\)\|", r"\\|", html.escape(plain, quote=False))


def python_markdown() -> str:
    """One entry per public name; the site fills in its docstring."""
    parts = ["# Python", NOTE, "Everything here is imported from `hf_free`."]
    for name in sorted(hf_free.__all__):
        if name.startswith("__"):
            continue
        item = getattr(hf_free, name)
        first = inspect.cleandoc(item.__doc__ or "").split("\n\n")[0]
        parts += [f"## {name}", " ".join(first.split()), f"::: {item.__module__}.{item.__qualname__}"]
    return "\n\n".join(parts) + "\n"


def methods_markdown() -> str:
    """One row per method, and where each departs from what its authors released."""
    rows = [
        f"| `{one.name}` | {_cell(one.title)} | [{_cell(one.paper)}]({one.url}) | {_cell(one.needs)} |"
        for one in list_methods()
    ]
    parts = ["# Methods", NOTE, "`hf-free train --method NAME` chooses one; `hf-free methods` prints this list."]
    parts += ["| method | what it is | paper | what it needs of a teacher |\n|---|---|---|---|\n" + "\n".join(rows)]
    ways = [
        f"| `{one.name}` | {_cell(one.title)} | [{_cell(one.paper)}]({one.url}) | {_cell(one.needs)} |"
        for one in list_inversions()
    ]
    parts += ["## Ways to invert", "`--inversion NAME` puts one in the place of the method's own."]
    parts += ["| inversion | what it is | paper | what it needs of a teacher |\n|---|---|---|---|\n" + "\n".join(ways)]
    for one in list_methods():
        if one.departures:
            listed = "\n".join(f"- {departure}" for departure in one.departures)
            parts += [f"## Where `{one.name}` departs from its authors' code", listed]
    return "\n\n".join(parts) + "\n"


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", text)


PAGES = {
    "configuration.md": configuration_markdown,
    "cli.md": command_line_markdown,
    "api.md": python_markdown,
    "methods.md": methods_markdown,
}
"""The pages and what writes them."""


def main() -> int:
    """Write the pages, or say which ones differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a page differs")
    check = parser.parse_args().check
    stale = [name for name, write in PAGES.items() if _text(FOLDER / name) != write()]
    for name in stale:
        if check:
            sys.stderr.write(f"docs/reference/{name} is not what the code says: run {Path(__file__).name}\n")
        else:
            FOLDER.mkdir(exist_ok=True)
            (FOLDER / name).write_text(PAGES[name](), encoding="utf-8")
    return int(check and bool(stale))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


if __name__ == "__main__":
    sys.exit(main())
