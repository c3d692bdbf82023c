"""What a run's record says of teachers that were left out."""

from __future__ import annotations

import pytest
import torch

from hf_free.config.tree import FreeConfig
from hf_free.provenance.learner_record import LearnerRecord
from hf_free.provenance.recorded_teacher import RecordedTeacher
from hf_free.provenance.run_record import KnownTeachers, MethodFacts
from hf_free.runtime.device import Precision
from hf_free.training.results import run_record
from hf_free.training.state import RunState


@pytest.mark.parametrize(("objective", "asked"), [("distill", [True, None]), ("align", [None, None])])
def test_teachers_that_answer_but_are_not_inverted_are_told_apart(objective, asked):
    config = FreeConfig.from_dict({"bell": {"objective": objective}})
    entries = [{"reference": name, "reason": "not inverted any more: why"} for name in ("lab/asked", "lab/silent")]
    teachers = tuple(RecordedTeacher.from_dict({"reference": name}) for name in ("lab/asked", "lab/other"))
    known = KnownTeachers(teachers=teachers, answer_outputs=(None, None))
    state = RunState(skipped=entries)
    run = (config.to_dict(), known, state, torch.device("cpu"), Precision(), "held-out pictures")
    record = run_record(*run, method=MethodFacts(name="default"), started=LearnerRecord()).to_dict()
    assert [entry.get("asked") for entry in record["skipped"]] == asked
    assert [{**entry, "asked": None} for entry in record["skipped"]] == [{**e, "asked": None} for e in entries]
    assert all("asked" not in entry for entry in state.skipped)  # the state goes into the checkpoint as it was
