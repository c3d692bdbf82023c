"""The sentence that says whether a learner beats its teachers."""

from __future__ import annotations

import pytest

from hf_free.provenance.against_teachers import BEST_TEACHER, against_teachers
from hf_free.provenance.results import EvaluationReport, ResultRow

ALL = "all 3 teachers' features, concatenated"


def report(*rows):
    made = [
        ResultRow(method, 5, shot, 15, 600, 50.0, 0.5, True, 1.0, 1.0, ahead=ahead, ahead_interval=interval)
        for method, shot, ahead, interval in rows
    ]
    return EvaluationReport(made, "org/x", "test")


def test_both_rivals_are_named_with_the_differences():
    said = against_teachers(
        report(
            ("learner", 1, None, None),
            ("best single teacher (chosen on these very episodes: an upper bound)", 1, 0.1, 0.1),
            (BEST_TEACHER, 1, 3.14, 0.4),
            (BEST_TEACHER, 5, 1.0, 0.3),
            (ALL, 1, -0.52, 0.3),
            (ALL, 5, -2.0, 0.3),
            ("all 3 teachers' logits, concatenated", 5, 9.0, 0.3),
        )
    )
    assert said == (
        "The learner beats its best teacher, chosen on other episodes (5-way 1-shot +3.1 ± 0.4, 5-way 5-shot "
        "+1.0 ± 0.3) and loses to its teachers' features concatenated (5-way 1-shot -0.5 ± 0.3, 5-way 5-shot "
        "-2.0 ± 0.3); points on the same episodes."
    )


@pytest.mark.parametrize(
    ("differences", "said"),
    [
        ([(0.2, 0.3), (-0.3, 0.3)], "is level with"),
        ([(0.2, 0.3), (0.9, 0.3)], "beats in part"),
        ([(-1.0, 0.3), (0.9, 0.3)], "beats in part"),
        ([(-1.0, 0.3), (0.1, 0.3)], "does not beat"),
        ([(0.0, 0.0)], "is level with"),
        ([(0.1, 0.0)], "beats"),
    ],
)
def test_a_difference_within_its_interval_is_none(differences, said):
    rows = [(ALL, shot, *difference) for shot, difference in enumerate(differences, 1)]
    assert against_teachers(report(*rows)).startswith(f"The learner {said} its teachers' features concatenated (5-way")


def test_a_single_teacher_is_called_that():
    said = against_teachers(report(("one teacher's features (mean over 1)", 1, 1.0, 0.3)))
    assert said == "The learner beats its teacher (5-way 1-shot +1.0 ± 0.3); points on the same episodes."


def test_nothing_is_said_where_it_was_not_measured():
    assert against_teachers(report(("learner", 1, None, None), (ALL, 1, None, None), ("pixels", 1, 3.0, 0.1))) == ""
