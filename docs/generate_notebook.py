"""Write docs/tutorial.ipynb from the tutorial, docs/index.md; `--check` says whether it is what the page says.

Python blocks become cells; command lines become `%%bash` cells that end with the first failure.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

PAGE = Path(__file__).parent / "index.md"
NOTEBOOK = PAGE.with_name("tutorial.ipynb")
_BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```\n", re.DOTALL | re.MULTILINE)

_SHOWN = """## In a notebook

A learner, a classifier and a run show themselves."""
_SHOWING = ("classifier", 'from hf_free import read_run\n\nread_run("runs/digits")')


def notebook(page: str) -> str:
    """The tutorial as a notebook without outputs, as text."""
    cells, end = [], 0
    for block in _BLOCK.finditer(page):
        cells.append(("markdown", page[end : block.start()]))
        cells.append(("code", block[2] if block[1] == "python" else f"%%bash\nset -e\n{block[2]}"))
        end = block.end()
    cells.append(("markdown", page[end:]))
    cells += [("markdown", _SHOWN), *(("code", code) for code in _SHOWING)]
    content = {
        "cells": [_cell(kind, text.strip(), f"cell-{place}") for place, (kind, text) in enumerate(cells)],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _cell(kind: str, text: str, name: str) -> dict[str, object]:
    cell = {"cell_type": kind, "id": name, "metadata": {}, "source": text.splitlines(keepends=True)}
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def main() -> int:
    """Write the notebook, or say that it differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if the notebook differs")
    check = parser.parse_args().check
    wanted = notebook(PAGE.read_text(encoding="utf-8"))
    if NOTEBOOK.is_file() and NOTEBOOK.read_text(encoding="utf-8") == wanted:
        return 0
    if check:
        sys.stderr.write(f"{NOTEBOOK.name} is not what index.md says: run {Path(__file__).name}\n")
        return 1
    NOTEBOOK.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
