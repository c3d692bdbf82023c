"""The benchmark's entry, its matrix, and the README's table out of its results."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from benchmark.__main__ import PROGRAMS
from benchmark.matrix import MATRIX, read_experiment
from benchmark.readme_table import RESULTS, main, table, with_table

from hf_free import FreeConfig

ROOT = Path(__file__).parents[2]


def test_one_entry_says_what_there_is_both_ways():
    for command in ([str(ROOT / "examples" / "benchmark")], ["-m", "examples.benchmark"]):
        done = subprocess.run(
            [sys.executable, *command, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        words = done.stdout.split()
        assert all(word in words or f"{word}," in words for word in PROGRAMS)
    for module in PROGRAMS.values():
        assert (ROOT / "examples" / "benchmark" / f"{module}.py").is_file()


def test_every_setting_of_the_matrix_exists():
    sets = [*MATRIX["methods"].values(), MATRIX["short"]["set"], MATRIX["quick"]["set"]]
    sets += [MATRIX["scenarios"]["domains"]["set"]]
    sets += [side["set"] for row in MATRIX["ablation"] for side in row.values()]
    for assignments in sets:
        FreeConfig.load(assignments=assignments)
    for method in MATRIX["methods"]:
        FreeConfig.load(values={"method": method})
    for row in MATRIX["ablation"]:
        assert row["without"]["name"] != row["with"]["name"]
        assert row["without"]["set"] != row["with"]["set"]


def test_the_readmes_table_is_that_of_the_results():
    main(["--json", str(RESULTS), "--check"])


def test_the_table_is_written_from_what_was_measured(tmp_path):
    line = {"accuracy": {"1": 48.46, "5": 64.44}, "interval": {"1": 0.86, "5": 0.8}}
    lines = [{**line, "method": f"seed {seed}"} for seed in range(2)] + [{**line, "method": "pixels (8x8)"}]
    results = {"tables": {"headline": {"lines": lines}}}
    rows = [{"label": "pixels", "lines": ["pixels (8x8)"]}, {"label": "**ours**", "lines": ["seed 0", "seed 1"]}]
    written = table(results, rows)
    assert written.splitlines()[2:] == [
        "| pixels | 48.5 ± 0.9 | 64.4 ± 0.8 |",
        "| **ours** | **48.5, 48.5** ± 0.9 | **64.4, 64.4** ± 0.8 |",
    ]
    with pytest.raises(KeyError, match="gone"):
        table(results, [{"label": "x", "lines": ["gone"]}])
    with pytest.raises(ValueError, match="results: begin"):
        with_table("no marks", written)

    page = tmp_path / "page.md"
    page.write_text("a\n<!-- results: begin -->\nold\n<!-- results: end -->\nb\n")
    with pytest.raises(SystemExit, match="has another table"):
        main(["--page", str(page), "--check"])
    main(["--page", str(page)])
    labels = [row["label"] for row in read_experiment("readme")]
    assert [text.split(" | ")[0].strip("| ") for text in page.read_text().splitlines()[4:-2]] == labels
    main(["--page", str(page), "--check"])
    assert json.loads(RESULTS.read_text(encoding="utf-8"))["tables"].keys() == {"headline", "paper"}


def test_minutes_to_an_accuracy_are_those_of_the_shortest_run_that_has_it():
    from benchmark.time_to_accuracy import Row, summary

    def row(processes, minutes, one, five):
        return Row(processes, minutes, 10, {1: one, 5: five}, {1: 0.8, 5: 0.8}, 1.0)

    rows = [row(1, 10, 47.9, 65), row(1, 30, 48.2, 64.1), row(1, 40, 49, 65), row(2, 16, 48, 64), row(2, 12, 49, 63.9)]
    assert summary(rows, [48.0, 64.0]) == [
        "1 process(es): 48 / 64 within 30 minutes",
        "2 process(es): 48 / 64 within 16 minutes, 1.88 times one process",
    ]
    assert summary([row(2, 5, 40, 50)], [48.0, 64.0]) == ["2 process(es): no run reached 48 / 64"]
