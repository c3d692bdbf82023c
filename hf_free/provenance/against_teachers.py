"""Whether a learner beats its teachers: one sentence about a report that measured both."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hf_free.provenance.results import EvaluationReport, ResultRow

BEST_TEACHER = "best single teacher, chosen on other episodes"
"""The row of the teacher that is best on one half of the episodes, measured on the other half, and the reverse."""

_RIVALS = (
    (re.compile(re.escape(BEST_TEACHER)), "its best teacher, chosen on other episodes"),
    (re.compile(r"one teacher's features \(mean over 1\)"), "its teacher"),
    (re.compile(r"all \d+ teachers' features, concatenated"), "its teachers' features concatenated"),
)
"""What a learner has to beat to be worth having: the rows' names, and how the sentence calls them."""


def against_teachers(report: EvaluationReport) -> str:
    """Whether the learner beats its best teacher and their features concatenated; empty where that was not measured.

    "Beats" and "loses to" need a difference beyond its 95 % interval, which is of the differences episode by episode.
    """
    parts = []
    for names, rival in _RIVALS:
        rows = [row for row in report.rows if names.fullmatch(row.method) and row.ahead is not None]
        if rows:
            parts.append(f"{_outcome(rows)} {rival} ({', '.join(map(_difference, rows))})")
    return f"The learner {' and '.join(parts)}; points on the same episodes." if parts else ""


def _outcome(rows: Sequence[ResultRow]) -> str:
    signs = {_sign(row) for row in rows}
    if signs == {1}:
        return "beats"
    if signs == {-1}:
        return "loses to"
    if signs == {0}:
        return "is level with"
    return "beats in part" if 1 in signs else "does not beat"


def _sign(row: ResultRow) -> int:
    ahead, interval = row.ahead or 0.0, row.ahead_interval or 0.0
    return 0 if abs(ahead) <= interval else 1 if ahead > 0 else -1


def _difference(row: ResultRow) -> str:
    interval = "" if row.ahead_interval is None else f" ± {row.ahead_interval:.1f}"
    return f"{row.n_way}-way {row.k_shot}-shot {row.ahead:+.1f}{interval}"
