"""Some pictures of a memory's file, without reading the others."""

from __future__ import annotations

import torch

from hf_free.data.logits import ClassKey
from hf_free.inversion.task import Health, RecoveredTask
from hf_free.memory.bank import TaskMemory
from hf_free.memory.kept_pictures import read_kept


def _task(teacher, classes, value, count=3):
    labels = torch.arange(len(classes)).repeat_interleave(count)
    images = (value + 10 * labels)[:, None, None, None].expand(-1, 3, 4, 4).to(torch.uint8)
    soft_labels = torch.eye(len(classes))[labels]
    return RecoveredTask(images, labels, soft_labels, tuple(classes), teacher, "lab/a", Health(1.0, 0.1, 0.1))


def test_teachers_take_turns_and_the_last_pictures_of_a_class_are_read(tmp_path):
    memory = TaskMemory(100)
    memory.add_pictures(torch.zeros(5, 3, 4, 4, dtype=torch.uint8))
    memory.add_task(_task(1, [0, 2, 4], 100))
    memory.add_task(_task(0, [3], 200))
    memory.add_task(_task(0, [3], 220, count=1))
    memory.save(tmp_path / "memory.safetensors")
    kept = read_kept(tmp_path / "memory.safetensors", classes=3, pictures=2)
    assert [one.key for one in kept.classes] == [ClassKey(0, 3), ClassKey(1, 0), ClassKey(1, 2)]
    assert [one.images[:, 0, 0, 0].tolist() for one in kept.classes] == [[200, 220], [100, 100], [110, 110]]
    assert (kept.classes_in_all, kept.pictures_in_all) == (4, 13)


def test_a_memory_of_drawn_pictures_alone_has_no_classes(tmp_path):
    memory = TaskMemory(10)
    memory.add_pictures(torch.zeros(5, 3, 4, 4, dtype=torch.uint8))
    memory.save(tmp_path / "memory.safetensors")
    assert read_kept(tmp_path / "memory.safetensors", classes=3, pictures=2).classes == ()
