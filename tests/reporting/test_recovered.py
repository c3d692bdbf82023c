"""The last recovered images of a run."""

from __future__ import annotations

import torch

from hf_free.inversion.task import Health, RecoveredTask
from hf_free.memory.bank import TaskMemory
from hf_free.reporting.recovered import last_classes


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
