"""One picture set under several teachers: who is asked, what is shown, who is not named."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pico import pico_teacher
from PIL import Image

from hf_free.inversion.task import finish_task
from hf_free.memory.bank import TaskMemory
from hf_free.reporting.heterogeneity import choose_classes, choose_teachers, draw_heterogeneity
from hf_free.reporting.naming import class_name, class_names, teacher_names, whose_class
from hf_free.teachers.pool import TeacherPool


def _records(*architectures):
    record = pico_teacher("conv4", size=16).record
    return [replace(record, architecture=name) for name in architectures]


def test_every_architecture_comes_before_a_second_of_one():
    records = _records("a", "a", "b", "a", "c", "b", "d", "a")
    assert choose_teachers(records) == [0, 1, 2, 3, 4, 6]
    assert choose_teachers(records, without=[0, 6]) == [1, 2, 3, 4, 5, 7]
    assert choose_teachers(_records(*"abcdefgh")) == [0, 1, 2, 3, 4, 5]
    assert choose_teachers(records[:2], without=[1]) == [0]


def test_each_teacher_has_a_class_before_one_has_two():
    assert choose_classes([0] * 9 + [1] * 9, [0, 1]) == [0, 1, 2, 3, 4, 9, 10, 11, 12, 13]
    assert choose_classes([5, 5, 0], [0]) == [0, 1, 2]
    assert choose_classes([], [0]) == []


def test_hidden_teachers_have_no_name():
    (record,) = _records("vit")
    known = replace(record, reference="lab/secret/cats", label_names=("tabby", "lion"))
    hidden = replace(known, private=True)
    assert (teacher_names([known]), class_name(known, 3, 1)) == (["cats"], "lion")
    for other in (hidden, replace(known, gated=True)):
        assert (teacher_names([known, other]), class_name(other, 3, 1)) == (["cats", "2: vit"], "4:1")
    unnamed = replace(known, label_names=None)
    assert class_name(unnamed, 3, 1) == "4:1"
    assert [whose_class(one, 3, 1) for one in (known, unnamed, hidden)] == ["cats: lion", "cats: class 1", "4:1"]
    assert whose_class(replace(known, reference="org/net@refs/pr/1"), 3, 1) == "net@refs/pr/1: lion"


@pytest.mark.parametrize(
    ("references", "names"),
    [
        (["a/conv4", "b/conv4", "b/vit"], ["a/conv4", "b/conv4", "vit"]),
        (["/x/a/m/conv4", "/x/b/m/conv4", "conv4"], ["a/m/conv4", "b/m/conv4", "conv4"]),
        (["/x/a/conv4/", "/y/a/conv4"], ["x/a/conv4", "y/a/conv4"]),
        (["org/net@refs/pr/1", "org/net@v2:0-4", "other/net"], ["net@refs/pr/1", "net@v2:0-4", "net"]),
        (["org/net:0-4", "org/net:5-9"], ["net:0-4", "net:5-9"]),
        (["pico/conv4", "pico/conv4"], ["1: conv4", "2: conv4"]),
    ],
)
def test_teachers_of_one_folder_name_are_told_apart(references, names):
    (record,) = _records("vit")
    assert teacher_names([replace(record, reference=text) for text in references]) == names


def test_classes_of_one_name_say_whose_they_are():
    (record,) = _records("vit")
    first = replace(record, reference="lab/first", label_names=("house", "cat"))
    second = replace(first, reference="lab/second")
    names = class_names([(first, 0, 0), (first, 0, 1), (second, 1, 0)], teacher_names([first, second]))
    assert names == ["house (first)", "cat", "house (second)"]


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
        colours = {pixel for _, pixel in two.convert("RGB").getcolors(maxcolors=2**24)}
    assert len(colours) > 10  # ten classes, ten colours
    draw_heterogeneity(memory, pool, path, without=[1])
    with Image.open(path) as one:
        assert one.width <= width
