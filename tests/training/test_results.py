"""What a run's record says of teachers that were left out."""

from __future__ import annotations

import pytest
import torch

from hf_free.config.tree import FreeConfig
from hf_free.inversion.task import Health, RecoveredTask
from hf_free.memory.bank import TaskMemory
from hf_free.reporting.recovered import last_classes
from hf_free.runtime.device import Precision
from hf_free.training.results import run_record
from hf_free.training.state import RunState


@pytest.mark.parametrize(("objective", "asked"), [("distill", [True, None]), ("align", [None, None])])
def test_teachers_that_answer_but_are_not_inverted_are_told_apart(objective, asked):
    config = FreeConfig.from_dict({"bell": {"objective": objective}})
    entries = [{"reference": name, "reason": "not inverted any more: why"} for name in ("lab/asked", "lab/silent")]
    known = {"teachers": [{"reference": "lab/asked"}, {"reference": "lab/other"}], "answer_outputs": [None, None]}
    state = RunState(skipped=entries)
    record = run_record(config.to_dict(), known, state, torch.device("cpu"), Precision(), "held-out pictures")
    assert [entry.get("asked") for entry in record["skipped"]] == asked
    assert [{**entry, "asked": None} for entry in record["skipped"]] == [{**e, "asked": None} for e in entries]
    assert all("asked" not in entry for entry in state.skipped)  # the state goes into the checkpoint as it was


def test_the_picture_of_recovered_classes_shows_as_many_teachers_as_it_can():
    memory = TaskMemory(100)
    health = Health(accuracy=1.0, loss=0.1, diversity=0.2)
    for teacher, classes in ((0, 3), (1, 2), (2, 6)):
        images = torch.zeros(classes, 3, 8, 8, dtype=torch.uint8)
        soft, names = torch.eye(classes), tuple(range(classes))
        memory.add_task(RecoveredTask(images, torch.arange(classes), soft, names, teacher, "lab/x", health))
    shown = [memory.classes[class_id] for class_id, _ in last_classes(memory, 7)]
    assert [(key.teacher, key.index) for key in shown] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 4), (2, 5)]
    assert len(last_classes(memory, 50)) == 11
