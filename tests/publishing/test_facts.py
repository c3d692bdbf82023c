"""A record in a few lines."""

from __future__ import annotations

import records

from hf_free.provenance.learner_record import LearnerRecord
from hf_free.provenance.run_record import Energy
from hf_free.publishing.facts import energy_text, record_facts, result_facts


def test_a_record_says_what_it_is_made_of_and_what_it_cost():
    facts = dict(record_facts(LearnerRecord.from_dict(records.record())))
    expected = {
        "Kind": "one network", "Method": "default", "Teachers": "2", "Parameters of all teachers": "57 k",
        "Real pictures used in training": "none", "Pictures recovered and kept": "80", "Recovered tasks": "4",
        "Recognized by their teacher": "92.5 %", "Time": "1.5 minutes", "Device": "cpu, 2 threads", "Seed": "0",
    }  # fmt: skip
    assert expected.items() <= facts.items()


def test_what_is_not_recorded_is_left_out():
    assert record_facts(LearnerRecord.from_dict({})) == [("Kind", "one network")]
    assert (
        dict(record_facts(LearnerRecord.from_dict({"data_free": False})))["Real pictures used in training"] != "none"
    )


def test_energy_is_told_with_the_time_it_is_of():
    assert energy_text(Energy()) == ""
    assert energy_text(Energy(0.0123456, 1788.0, "by x")) == "12.3 Wh in 29.8 minutes (by x)"
    assert energy_text(Energy(12.3456, 36000.0, "by x")) == "12.3 kWh in 600 minutes (by x)"
    record = records.record(training={"minutes": 1.5, "energy": {"kwh": 0.5, "seconds": 60, "how": "by x"}})
    assert dict(record_facts(LearnerRecord.from_dict(record)))["Energy"] == "0.5 kWh in 1 minutes (by x)"


def test_results_are_the_learners_own():
    rows = [records.row(), records.row("learner", inductive=False, accuracy=70.0), records.row("pixels")]
    record = LearnerRecord.from_dict(records.record(results=[records.report(rows=rows)]))
    said = "3-way 1-shot 61.2 ± 0.8 %, 3-way 1-shot 70.0 ± 0.8 % (transductive)"
    assert result_facts(record) == [("Accuracy on org/birds", said)]
