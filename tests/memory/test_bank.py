"""The memory against a Python deque: what it holds, in which classes, within which budget."""

from __future__ import annotations

from collections import Counter, defaultdict, deque

import pytest
import torch

from hf_free.data.logit_rows import LogitRows
from hf_free.data.logits import ClassKey
from hf_free.inversion.task import Health, RecoveredTask
from hf_free.memory.bank import MIN_ROWS, NO_CLASS, TaskMemory


def _pictures(first, count):
    """Pictures that spell their number in their two bytes."""
    numbers = torch.arange(first, first + count)
    return torch.stack([numbers // 256, numbers % 256], 1).view(-1, 1, 1, 2).to(torch.uint8)


def _numbers(images):
    return (images[:, 0, 0, 0].long() * 256 + images[:, 0, 0, 1].long()).tolist()


def _task(first, teacher, classes, each=2):
    labels = torch.arange(len(classes)).repeat(each)
    images = _pictures(first, len(labels))
    soft = torch.full((len(labels), len(classes)), 1 / len(classes))
    return RecoveredTask(images, labels, soft, tuple(classes), teacher, f"t{teacher}", Health(1.0, 0.1, 0.2))


def _answers(images, width=3):
    values = torch.tensor(_numbers(images)).float()[:, None] + torch.arange(width) / 4
    return LogitRows(values, (width,))


class Deque:
    """The same in plain Python."""

    def __init__(self, maxlen):
        self.held = deque(maxlen=maxlen)

    def add(self, images, keys):
        self.held.extend(zip(_numbers(images), keys, strict=True))

    def by_class(self, least):
        groups = defaultdict(set)
        for number, key in self.held:
            if key is not None:
                groups[key].add(number)
        return {key: numbers for key, numbers in groups.items() if len(numbers) >= least}


def _assert_same(memory, plain, least):
    count = len(memory)
    held = memory.images[:count]
    assert sorted(_numbers(held)) == sorted(number for number, _ in plain.held)
    assert torch.equal(memory.said().values[:count].float(), _answers(held).values)
    found = {
        memory.classes[label]: set(_numbers(memory.images[places]))
        for label, places in memory.pictures_by_class(least).items()
    }
    assert found == plain.by_class(least)


def test_ring_against_a_deque():
    torch.manual_seed(0)
    memory, plain = TaskMemory(37, sizes=[3]), Deque(37)
    made = 0
    for round_ in range(40):
        if round_ % 3 == 2:
            images = _pictures(made, int(torch.randint(1, 9, ())))
            memory.add_pictures(images, _answers(images))
            plain.add(images, [None] * len(images))
        else:
            teacher = int(torch.randint(3, ()))
            classes = sorted(torch.randperm(6)[:4].tolist())
            task = _task(made, teacher, classes, each=int(torch.randint(1, 4, ())))
            images = task.images
            memory.add_task(task, _answers(images))
            plain.add(images, [ClassKey(teacher, classes[label]) for label in task.labels.tolist()])
        made += len(images)
        assert len(memory) == min(made, 37) == len(plain.held)
        for least in (1, 3):
            _assert_same(memory, plain, least)
    assert memory.seen == made > 4 * 37


@pytest.mark.parametrize("count", [10, 11, 25])
def test_more_pictures_at_once_than_the_ring_holds(count):
    memory = TaskMemory(10)
    memory.add_pictures(_pictures(0, 3))
    memory.add_pictures(_pictures(100, count))
    assert sorted(_numbers(memory.images[: len(memory)])) == list(range(100 + count - 10, 100 + count))


def test_bytes_stay_within_the_budget_and_grow_as_needed():
    memory = TaskMemory(5000, sizes=[4])
    assert memory.nbytes == 0
    shape, row = (3, 8, 8), 3 * 8 * 8 + 4 * 2 + 8  # uint8 pixels, fp16 answers, an int64 class
    memory.add_pictures(torch.zeros(10, *shape, dtype=torch.uint8))
    assert memory.nbytes == MIN_ROWS * row
    for _ in range(60):
        memory.add_pictures(torch.zeros(100, *shape, dtype=torch.uint8))
    assert memory.nbytes == 5000 * row
    assert memory.images.dtype == torch.uint8
    assert memory.said().values.dtype == torch.float16


def test_room_grows_without_losing_anything():
    memory = TaskMemory(10 * MIN_ROWS)
    for first in range(0, 3 * MIN_ROWS, MIN_ROWS // 2):
        memory.add_pictures(_pictures(first, MIN_ROWS // 2))
    assert _numbers(memory.images[: len(memory)]) == list(range(3 * MIN_ROWS))


def test_answers_nobody_gave_are_nan():
    memory = TaskMemory(10, sizes=[2])
    memory.add_pictures(_pictures(0, 4))
    assert memory.sample(8).answers.values.isnan().all()
    assert memory.sample(8).answers.values.shape == (8, 2)
    assert memory.class_ids[:4].tolist() == [NO_CLASS] * 4
    assert memory.pictures_by_class(1) == {}


def test_sampling_is_uniform_over_what_is_held():
    torch.manual_seed(0)
    memory = TaskMemory(8, sizes=[3])
    for first in range(0, 24, 4):
        images = _pictures(first, 4)
        memory.add_pictures(images, _answers(images))
    sample = memory.sample(8000)
    counts = Counter(_numbers(sample.images))
    assert set(counts) == set(range(16, 24))
    assert all(abs(count - 1000) < 150 for count in counts.values())  # 5 standard deviations
    assert torch.equal(sample.answers.values, _answers(sample.images).values)  # a picture keeps its own answers
    assert sample.answers.values.dtype == torch.float32


def test_one_class_of_one_teacher_is_one_class_however_often_it_comes():
    memory = TaskMemory(100)
    memory.add_task(_task(0, 0, [1, 2]))
    memory.add_task(_task(10, 1, [1, 2]))
    memory.add_task(_task(20, 0, [2, 7]))
    assert memory.classes == [ClassKey(0, 1), ClassKey(0, 2), ClassKey(1, 1), ClassKey(1, 2), ClassKey(0, 7)]
    groups = {memory.classes[k]: sorted(_numbers(memory.images[v])) for k, v in memory.pictures_by_class(1).items()}
    assert groups[ClassKey(0, 2)] == [1, 3, 20, 22]
    assert groups[ClassKey(1, 2)] == [11, 13]
    assert set(memory.pictures_by_class(3)) == {1}


def _filled(budget, count=26):
    memory = TaskMemory(budget, sizes=[3])
    for first in range(0, count - 6, 4):
        task = _task(first, first // 4 % 2, [0, 3])
        memory.add_task(task, _answers(task.images))
    images = _pictures(count - 6, 6)
    memory.add_pictures(images, _answers(images))
    return memory


@pytest.mark.parametrize("budget", [100, 10])
def test_saved_and_loaded_it_goes_on_as_if_nothing_had_happened(tmp_path, budget):
    memory = _filled(budget)
    memory.save(tmp_path / "memory.safetensors")
    other = TaskMemory(budget, sizes=[3])
    other.load(tmp_path / "memory.safetensors")
    for m in (memory, other):
        task = _task(50, 1, [3, 5])
        m.add_task(task, _answers(task.images))
    count = len(memory)
    assert len(other) == count
    assert other.classes == memory.classes
    assert torch.equal(other.images[:count], memory.images[:count])  # place by place: sampling draws places
    assert torch.equal(other.said().values[:count], memory.said().values[:count])
    assert torch.equal(other.class_ids[:count], memory.class_ids[:count])


@pytest.mark.parametrize(("before", "after"), [(10, 30), (10, 4), (100, 12), (10, 10)])
def test_loaded_under_another_budget_the_newest_stay(tmp_path, before, after):
    _filled(before).save(tmp_path / "memory.safetensors")
    memory, plain = TaskMemory(after, sizes=[3]), Deque(after)
    memory.load(tmp_path / "memory.safetensors")
    newest = range(max(0, 26 - min(before, after)), 26)
    assert sorted(_numbers(memory.images[: len(memory)])) == list(newest)
    images = _pictures(200, 3)
    memory.add_pictures(images, _answers(images))
    for number in [*newest, 200, 201, 202]:
        plain.held.append((number, None))
    held = memory.images[: len(memory)]
    assert sorted(_numbers(held)) == sorted(number for number, _ in plain.held)
    assert torch.equal(memory.said().values.float(), _answers(held).values)
    assert set(_numbers(memory.sample(200).images)) <= set(_numbers(held))


def test_an_empty_memory_is_saved_and_loaded_too(tmp_path):
    TaskMemory(5, sizes=[2]).save(tmp_path / "memory.safetensors")
    memory = TaskMemory(5, sizes=[2])
    memory.load(tmp_path / "memory.safetensors")
    assert len(memory) == 0
    assert memory.pictures_by_class(1) == {}
    memory.add_pictures(_pictures(0, 3))
    assert len(memory) == 3
