"""Write the README's table of results from the benchmark's JSON.

    python examples/benchmark headline paper --json docs/experiments/headline.json    # measure
    python examples/benchmark readme                                                  # write the table

With --check it says whether the README has that table already, exit code 1 if not.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.matrix import MATRIX, read_experiment

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "experiments" / "headline.json"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def table(results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """The table in Markdown.

    Args:
        results: What `--json` of the benchmark wrote.
        rows: Rows as experiments/readme.yaml has them.

    Raises:
        KeyError: a row whose lines are not among the results.
    """
    found = {line["method"]: line for part in results["tables"].values() for line in part["lines"]}
    written = ["| | " + " | ".join(f"{shot}-shot" for shot in MATRIX["shots"]) + " |"]
    written.append("|---|" + "---:|" * len(MATRIX["shots"]))
    for row in rows:
        lines = [found[name] for name in row["lines"]]
        cells = [_cell(lines, str(shot)) for shot in MATRIX["shots"]]
        written.append(f"| {row['label']} | {' | '.join(cells)} |")
    return "\n".join(written)


def _cell(lines: Sequence[Mapping[str, Any]], shot: str) -> str:
    accuracies = ", ".join(f"{line['accuracy'][shot]:.1f}" for line in lines)
    bold = "**" if len(lines) > 1 else ""
    return f"{bold}{accuracies}{bold} ± {max(line['interval'][shot] for line in lines):.1f}"


def with_table(text: str, written: str) -> str:
    """A page with the table between its marks.

    Raises:
        ValueError: a page without the marks.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"the page needs one {BEGIN} and one {END}")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{written}\n{END}{rest.split(END)[1]}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the table, or say whether it is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=RESULTS, metavar="FILE", help="the benchmark's results")
    parser.add_argument("--page", type=Path, default=ROOT / "README.md", help="page with the table")
    parser.add_argument("--check", action="store_true", help="change nothing")
    options = parser.parse_args(arguments)
    text = options.page.read_text(encoding="utf-8")
    results = json.loads(options.json.read_text(encoding="utf-8"))
    fresh = with_table(text, table(results, read_experiment("readme")))
    if not options.check:
        options.page.write_text(fresh, encoding="utf-8")
    elif fresh != text:
        sys.exit(f"{options.page} has another table: python examples/benchmark readme")


if __name__ == "__main__":
    main()
