"""Which teachers and classes the picture of heterogeneity shows."""

from __future__ import annotations

import torch
from named import records_of
from pico import pico_teacher
from PIL import Image

from hf_free.inversion.task import finish_task
from hf_free.memory.bank import TaskMemory
from hf_free.reporting.heterogeneity import choose_classes, choose_teachers, draw_heterogeneity
from hf_free.teachers.pool import TeacherPool


def test_every_architecture_comes_before_a_second_of_one():
    records = records_of("a", "a", "b", "a", "c", "b", "d", "a")
    assert choose_teachers(records) == [0, 1, 2, 3, 4, 6]
    assert choose_teachers(records, without=[0, 6]) == [1, 2, 3, 4, 5, 7]
    assert choose_teachers(records_of(*"abcdefgh")) == [0, 1, 2, 3, 4, 5]
    assert choose_teachers(records[:2], without=[1]) == [0]


def test_each_teacher_has_a_class_before_one_has_two():
    assert choose_classes([0] * 9 + [1] * 9, [0, 1]) == [0, 1, 2, 3, 4, 9, 10, 11, 12, 13]
    assert choose_classes([5, 5, 0], [0]) == [0, 1, 2]
    assert choose_classes([], [0]) == []


def test_a_picture_of_the_memory_under_the_teachers(tmp_path):
    teachers = [pico_teacher("conv4", size=16, seed=1), pico_teacher("vit", size=16, seed=2)]
    pool, memory = TeacherPool.from_teachers(teachers), TaskMemory(100)
    path = tmp_path / "teachers.png"
    assert draw_heterogeneity(memory, pool, path) is None  # nothing recovered yet
    for index, teacher in enumerate(teachers):
        torch.manual_seed(index)
        memory.add_task(finish_task(torch.rand(25, 3, 16, 16), torch.arange(25) % 5, (0, 1, 2, 3, 4), teacher, index))
    assert draw_heterogeneity(memory, pool, path, without=[0, 1]) is None
    assert draw_heterogeneity(memory, pool, path) == path
    with Image.open(path) as two:
        width = two.width
        colors = {pixel for _, pixel in two.convert("RGB").getcolors(maxcolors=2**24)}
    assert len(colors) > 10  # ten classes, ten colors
    draw_heterogeneity(memory, pool, path, without=[1])
    with Image.open(path) as one:
        assert one.width <= width
