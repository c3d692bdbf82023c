"""What a run says at its end."""

from __future__ import annotations

import logging

import pytest

from hf_free.training.finishing import HARDLY_TRAINED, note_if_hardly_trained
from hf_free.training.folder import RunFolder


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"step": 1, "answers": 0.9}, {"step": 2, "answers": HARDLY_TRAINED + 0.05}], "75 %"),
        ([{"step": 1, "answers": 0.9}, {"step": 2, "answers": 0.4}], ""),
        ([{"step": 1, "answers": 0.9}, {"step": 2, "teacher_accuracy": 1.0}], "90 %"),
        ([{"step": 1, "distillation": 3.0}], ""),
    ],
)
def test_a_learner_that_predicts_little_is_pointed_out(tmp_path, caplog, rows, said):
    folder = RunFolder(tmp_path)
    for row in rows:
        folder.append_log(row)
    with caplog.at_level(logging.WARNING, logger="hf_free"):
        note_if_hardly_trained(folder)
    assert [record.message.split(" of what")[0] for record in caplog.records] == (
        [f"hardly trained: {said}"] if said else []
    )
