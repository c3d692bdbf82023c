"""The tables that the program prints."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from pico import pico_teacher
from rich.console import Console

from hf_free.cli.tables import plan_tables, results_table
from hf_free.provenance.against_teachers import BEST_TEACHER
from hf_free.provenance.results import EvaluationReport, ResultRow
from hf_free.training.estimate import CostEstimate
from hf_free.training.plan import TrainingPlan

COST = CostEstimate(**{name: 1000 * (place + 1) for place, name in enumerate(CostEstimate.__dataclass_fields__)})


def plan_of(**changes) -> TrainingPlan:
    values = {
        "method": "default", "teachers": (pico_teacher("conv4").record,), "skipped": (("lab/x", "gone\x1b[2J"),),
        "steps": None, "max_minutes": 30.0, "device": "cpu", "mixed_precision": "no", "cost": COST,
        "total_flops": None, "peak_memory": None, "step_seconds": None, "predicted_steps": None,
        "notes": ("[bold]mind[/bold]",),
    }  # fmt: skip
    return TrainingPlan(**{**values, **changes})


def shown(renderable, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("changes", "length"),
    [
        ({"max_minutes": None}, "no end"),
        ({}, "30 min, as many outer steps as fit in"),
        ({"predicted_steps": 1200}, "30 min, about 1,200 outer steps"),
        ({"steps": 1000, "max_minutes": None}, "1,000 outer steps"),
        ({"steps": 1000}, "1,000 outer steps or 30 min, whichever ends first"),
    ],
)
def test_the_length_of_a_run(changes, length):
    line = next(line for line in shown(plan_tables(plan_of(**changes))).splitlines() if line.startswith("Length"))
    assert line.removeprefix("Length").strip() == length


def test_a_plan_is_shown_as_text_with_what_was_measured():
    text = shown(plan_tables(plan_of(peak_memory=5 * 10**8, step_seconds=1.25, total_flops=10**12)))
    assert "Left out  lab/x: gone\N{REPLACEMENT CHARACTER}[2J" in text
    assert "[bold]mind[/bold]" in text
    assert "about 500 MB at its peak, measured here" in text
    assert "1.25 s an outer step, measured here" in text
    assert "all steps together: 1 TFLOP" in text
    assert "1 teacher, method default" in text
    assert "activations come on top" in shown(plan_tables(plan_of()))


def test_results_have_a_row_each_and_notes_only_where_there_are_some():
    row = ResultRow("learner", 5, 1, 15, 600, 48.5, 0.9, True, 12.0, 3.25)
    text = shown(results_table(EvaluationReport([row], "org/digits", "test")))
    assert "org/digits, split test: 5-way, 15 queries per class, 600 episodes" in text
    for part in ("48.50", "± 0.90", "12.0 (3.2)"):
        assert part in text
    assert "Note" not in text
    rows = [row, replace(row, method="[i]x[/i]", accuracy=None, interval=None, inductive=False, note="gone")]
    text = shown(results_table(EvaluationReport(rows, "org/digits", "test")))
    assert "x[/i]: transductive, all queries of an episode are seen together" in text
    assert "x[/i], 1 shot: gone" in text
    assert "[i]x[/i]" in text
    rows.append(replace(row, method=BEST_TEACHER, ahead=2.0, ahead_interval=0.5))
    text = shown(results_table(EvaluationReport(rows, "org/digits", "test")))
    assert "beats its best teacher, chosen on other episodes (5-way 1-shot +2.0 ± 0.5)" in text
    named = [
        replace(row, method=f"{name} (transductive)", inductive=False) for name in ("learner, one", "learner, two")
    ]
    text = shown(results_table(EvaluationReport([row, *named], "org/digits", "test")))
    assert text.lower().count("transductive") == 3, "the two names, and once what it means"


def test_a_plan_shows_nothing_of_a_black_box_that_it_does_not_say():
    black_box = replace(pico_teacher("conv4").record, answers_only=True, normalization={}, weight_bytes=0, commit=None)
    text = shown(plan_tables(plan_of(teachers=(black_box,))))
    assert text.count("unknown") == 2
    for wrong in ("local ", "no normalization", "0 B"):
        assert wrong not in text
