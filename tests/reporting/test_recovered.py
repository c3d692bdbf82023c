"""The last recovered images of a run."""

from __future__ import annotations

import shutil

import torch
from pico import pico_folder

from hf_free.inversion.task import Health, RecoveredTask
from hf_free.memory.bank import TaskMemory
from hf_free.reporting import recovered
from hf_free.reporting.heterogeneity import draw_heterogeneity
from hf_free.reporting.recovered import draw_pictures, last_classes
from hf_free.teachers.pool import TeacherPool
from hf_free.training.folder import RunFolder


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


def test_pictures_of_a_teacher_that_has_gone_are_not_shown(tmp_path, monkeypatch):
    folders = [pico_folder(tmp_path / f"t{seed}", size=16, num_classes=2, seed=seed) for seed in range(2)]
    pool, memory = TeacherPool([str(folder) for folder in folders], budget="9kB"), TaskMemory(100)
    health = Health(accuracy=1.0, loss=0.1, diversity=0.2)
    for teacher in range(2):
        images, labels = torch.zeros(4, 3, 16, 16, dtype=torch.uint8), torch.arange(4) % 2
        memory.add_task(RecoveredTask(images, labels, torch.eye(2)[labels], (0, 1), teacher, "lab/x", health))
    shutil.rmtree(folders[0])
    drawn = []
    monkeypatch.setattr(recovered, "recovered_grid", lambda *args, **named: drawn.append(named))
    draw_pictures(RunFolder(tmp_path / "run"), memory, pool)
    (grid,) = drawn
    assert grid["title"].endswith("of 2 classes, of one teacher")
    assert list(pool.gone) == [0]
    fresh = TeacherPool.from_teachers([])
    fresh.records, fresh.gone = pool.records, {0: "gone", 1: "gone"}
    assert draw_heterogeneity(memory, fresh, tmp_path / "teachers.png") is None
