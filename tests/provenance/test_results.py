"""Rows of accuracy and reports, written and read."""

from __future__ import annotations

import json
import math

from hf_free.provenance.results import EvaluationReport, ResultRow

ROW = ResultRow("learner", 5, 1, 15, 600, 48.5, 0.9, True, 1.0, 0.5, "a note")


def test_a_report_survives_json():
    report = EvaluationReport([ROW], "org/x", "test", ["mind this"], 3, 60, 16, False, "ab12", "v1")
    assert EvaluationReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report


def test_what_an_old_report_lacks_is_not_known():
    read = EvaluationReport.from_dict({"dataset": "org/x", "rows": [{"method": "learner", "accuracy": math.nan}]})
    assert (read.split, read.seed, read.local, read.fingerprint, read.revision) == ("", None, None, "", None)
    (row,) = read.rows
    assert (row.accuracy, row.interval, row.inductive, row.note) == (None, None, True, "")
