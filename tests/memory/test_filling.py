"""What goes into the memory where only some teachers are asked, and where teachers misbehave."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field

import pytest
import torch
from pico import pico_folder, pico_teacher
from torch import nn

from hf_free.data.logits import CenterPerTeacher, LogitLayout
from hf_free.inversion.task import Health, RecoveredTask
from hf_free.memory.bank import TaskMemory
from hf_free.memory.filling import HELD_OUT_SHARE, Filling, fill
from hf_free.metalearning.distill import answer_loss
from hf_free.runtime.device import Precision
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.soft_labels import teacher_sources
from hf_free.teachers.teacher import Teacher


@dataclass
class Counts:
    kept_tasks: int = 0
    pictures: int = 0
    accuracy_sum: float = 0.0
    diversity_sum: float = 0.0
    asked: list[int] = field(default_factory=list)


def _filling(pool, asked, *, room=100, drawn=6):
    layout = LogitLayout.of([record.num_classes for record in pool.records])
    memory, held_out = (TaskMemory(size, sizes=layout.sizes, asked=asked) for size in (room, 0))
    return Filling(
        memory, held_out, pool, teacher_sources(pool, layout), layout, Precision(), (3, 16), asked=asked, drawn=drawn
    )


def _task(teacher, images=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.randint(256, (images, 3, 16, 16), dtype=torch.uint8, generator=generator)
    labels = torch.arange(images) % 2
    return RecoveredTask(pictures, labels, torch.ones(images, 2) / 2, (0, 1), teacher, "t", Health(1.0, 0.1, 0.3))


def _teachers(count):
    return [pico_teacher("conv4", num_classes=3, size=16, seed=seed) for seed in range(count)]


def _loaded(folders, room):
    """A pool with room for so many of these teachers."""
    weights = TeacherPool([str(folders[0])]).records[0].weight_bytes
    return TeacherPool([str(folder) for folder in folders], budget=room * weights)


def _full(pool, images):
    with torch.no_grad():
        return torch.cat([teacher.logits(images.float() / 255) for teacher in pool], 1)


def _assert_right(memory, pool):
    """Every answer that is there is the teacher's own to that picture."""
    found, expected = memory.said().dense().float(), _full(pool, memory.images[: len(memory)])
    known = ~found.isnan()
    torch.testing.assert_close(found[known], expected[known], rtol=3e-3, atol=3e-3)
    return known[:, ::3]


def test_its_own_teacher_and_others_in_turn():
    torch.manual_seed(0)
    pool, counts = TeacherPool.from_teachers(_teachers(5)), Counts()
    to = _filling(pool, 2)
    for step in range(3):
        fill(to, [_task(step), _task(4, seed=9)], counts)
    known = _assert_right(to.memory, pool)
    assert (known.sum(1) == 2).all()
    places, owners = to.memory.recovered()
    assert known[places, owners].all()
    assert max(counts.asked) - min(counts.asked) <= 3  # more were recovered from the last one
    assert sum(counts.asked) == 2 * 3 * 22


def test_as_many_teachers_as_are_asked_are_all_asked():
    pool, counts = TeacherPool.from_teachers(_teachers(3)), Counts()
    to = _filling(pool, 3)
    fill(to, [_task(0)], counts)
    assert to.memory.said().blocks is None
    assert _assert_right(to.memory, pool).all()
    assert not counts.asked


class SometimesNaN(nn.Module):
    """Answers NaN about bright pictures."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.forward_features, self.forward_head = network.forward_features, network.forward_head

    def forward(self, x):
        return torch.where(x.mean((1, 2, 3)) > 0, torch.nan, 1.0)[:, None] * self.network(x)


def test_a_teacher_that_answers_nan_for_some_images():
    torch.manual_seed(0)
    teachers = _teachers(4)
    teachers[1] = Teacher(SometimesNaN(teachers[1].network), teachers[1].record)
    pool = TeacherPool.from_teachers(teachers)
    to = _filling(pool, 2, drawn=60)
    fill(to, [_task(1)], Counts())
    found = to.memory.said().dense().float().unflatten(1, (4, 3)).isnan().all(2)
    asked = torch.zeros(len(to.memory), 4, dtype=torch.bool)
    asked.scatter_(1, to.memory.said().blocks.long(), True)
    silent = asked & found
    assert silent[:, 1].any()
    assert (asked & ~found)[:, 1].any()  # about the others it answers
    assert not silent[:, [0, 2, 3]].any()
    rows = to.memory.said().to(torch.device("cpu"), torch.float32)
    loss = answer_loss(torch.randn(len(rows), 12, requires_grad=True), rows, CenterPerTeacher([3] * 4))["answers"]
    loss.backward()
    assert loss.isfinite()


def test_a_teacher_that_vanishes_between_two_steps_says_nothing_from_then_on_and_the_others_do(tmp_path):
    folders = [pico_folder(tmp_path / str(seed), size=16, num_classes=3, seed=seed) for seed in range(3)]
    pool, counts = _loaded(folders, 1), Counts()  # the others are loaded again for each step
    to = _filling(pool, 3)
    fill(to, [_task(0)], counts)
    held = len(to.memory)
    shutil.rmtree(folders[1])
    fill(to, [_task(0, images=20)], counts)
    said = ~to.memory.said().dense().unflatten(1, (3, 3)).isnan().any(2)
    assert said[:held].all()
    assert said[held:].any(0).tolist() == [True, False, True]
    assert list(pool.gone) == [1]


def test_a_budget_of_one_teacher_gives_the_same_answers(tmp_path):
    folders = [pico_folder(tmp_path / str(seed), size=16, num_classes=3, seed=seed) for seed in range(4)]
    found = []
    for budget in (1, 4):
        torch.manual_seed(0)
        pool = _loaded(folders, budget)
        to = _filling(pool, 2)
        fill(to, [_task(3)], Counts())
        assert pool.loaded_bytes <= pool.budget
        found.append(to.memory.said().dense())
    torch.testing.assert_close(*found, equal_nan=True, rtol=0, atol=0)


def test_more_teachers_than_images_take_turns():
    torch.manual_seed(0)
    pool, counts = TeacherPool.from_teachers(_teachers(9)), Counts()
    to = _filling(pool, 2, drawn=0)
    for step in range(5):
        fill(to, [_task(step, images=2)], counts)
    known = _assert_right(to.memory, pool)
    assert known.any(0).all()
    assert min(counts.asked) >= 1


def test_a_memory_too_small_for_the_images_of_a_step_keeps_the_last_with_their_own_answers():
    torch.manual_seed(0)
    pool = TeacherPool.from_teachers(_teachers(4))
    to = _filling(pool, 2, room=5, drawn=0)
    fill(to, [_task(0, images=12)], Counts())
    assert len(to.memory) == 5
    assert (_assert_right(to.memory, pool).sum(1) == 2).all()
    kept = {tuple(image.flatten().tolist()) for image in to.memory.images}
    assert kept == {tuple(image.flatten().tolist()) for image in _task(0, images=12).images[-5:]}


def test_what_interrupts_the_asking_keeps_nothing():
    pool, counts = TeacherPool.from_teachers(_teachers(4)), Counts()
    to = _filling(pool, 2)

    def stop():
        raise TimeoutError

    with pytest.raises(TimeoutError):
        fill(to, [_task(0)], counts, pause=stop)
    assert not len(to.memory)
    assert not counts.asked


# ---- where all are asked


class Means:
    """A source of labels that answers with the images' mean and its double."""

    places = (0,)

    def logits(self, images, precision):
        mean = images.float().flatten(1).mean(1)
        return torch.stack([mean, 2 * mean], 1)


@pytest.fixture
def filling():
    def make(*, drawn=0, held_out=0, **more):
        pool = TeacherPool.from_teachers([pico_teacher("conv4", size=16, num_classes=2)])
        layout = LogitLayout.of([2])
        memories = (TaskMemory(size, sizes=layout.sizes) for size in (200, held_out))
        return Filling(*memories, pool, [Means()], layout, Precision(), size=(3, 16), drawn=drawn, **more)

    return make


def small_task(teacher=0, count=4, accuracy=0.5):
    images = torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8)
    labels = torch.arange(count) % 2
    return RecoveredTask(
        images, labels, torch.full((count, 2), 0.5), (0, 1), teacher, "t", Health(accuracy, 0.1, 0.25)
    )


def means(memory):
    mean = memory.images[: len(memory)].float().flatten(1).mean(1)
    return torch.stack([mean, 2 * mean], 1)


def test_every_image_has_the_logits_of_its_sources(filling):
    to, state = filling(drawn=6), Counts()
    fill(to, [small_task(), small_task(accuracy=1.0)], state)
    assert len(to.memory) == 2 * 4 + 6
    torch.testing.assert_close(to.memory.said().values.float(), means(to.memory), atol=0.2, rtol=1e-3)
    assert (state.kept_tasks, state.pictures) == (2, 8), "drawn images are not recovered ones"
    assert (state.accuracy_sum, state.diversity_sum) == (1.5, 0.5)


def test_nothing_is_drawn_beside_nothing(filling):
    to, state = filling(drawn=6), Counts()
    fill(to, [], state)
    assert len(to.memory) == state.kept_tasks == 0


def test_few_tasks_are_kept_aside_and_only_once_the_memory_has_some(filling):
    to, state = filling(held_out=8), Counts()
    for _ in range(20):
        fill(to, [small_task()], state)
        assert len(to.held_out) <= max(4 + HELD_OUT_SHARE * to.memory.seen, 0)
    assert len(to.held_out) == 8
    assert len(to.memory) + len(to.held_out) == state.pictures == 80


def test_the_released_codes_defect_keeps_the_last_task_only(filling):
    to, state = filling(last_task_only=True), Counts()
    tasks = [small_task(), small_task()]
    fill(to, tasks, state)
    assert torch.equal(to.memory.images[: len(to.memory)], tasks[-1].images)
    assert state.kept_tasks == 1


def test_what_is_raised_in_a_pause_keeps_nothing(filling):
    def stop():
        raise InterruptedError

    to, state = filling(drawn=6), Counts()
    with pytest.raises(InterruptedError):
        fill(to, [small_task()], state, pause=stop)
    assert len(to.memory) == state.kept_tasks == state.pictures == 0
