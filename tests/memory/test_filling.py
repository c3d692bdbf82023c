"""What goes into the memory: tasks, drawn images beside them, and every source's logits to each."""

from __future__ import annotations

import pytest
import torch
from pico import pico_teacher

from hf_free.data.logits import LogitBlock, LogitLayout
from hf_free.inversion.task import Health, RecoveredTask
from hf_free.memory.bank import TaskMemory
from hf_free.memory.filling import HELD_OUT_SHARE, Filling, fill
from hf_free.runtime.device import Precision
from hf_free.teachers.pool import TeacherPool
from hf_free.training.state import RunState


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
        layout = LogitLayout.side_by_side([LogitBlock((), 0, 2, None)])
        memories = (TaskMemory(size, answers=layout.width) for size in (200, held_out))
        return Filling(*memories, pool, [Means()], layout, Precision(), size=(3, 16), drawn=drawn, **more)

    return make


def task(teacher=0, count=4, accuracy=0.5):
    images = torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8)
    labels = torch.arange(count) % 2
    return RecoveredTask(
        images, labels, torch.full((count, 2), 0.5), (0, 1), teacher, "t", Health(accuracy, 0.1, 0.25)
    )


def means(memory):
    mean = memory.images[: len(memory)].float().flatten(1).mean(1)
    return torch.stack([mean, 2 * mean], 1)


def test_every_image_has_the_logits_of_its_sources(filling):
    to, state = filling(drawn=6), RunState()
    fill(to, [task(), task(accuracy=1.0)], state)
    assert len(to.memory) == 2 * 4 + 6
    torch.testing.assert_close(to.memory.answers[: len(to.memory)].float(), means(to.memory), atol=0.2, rtol=1e-3)
    assert (state.kept_tasks, state.pictures) == (2, 8), "drawn images are not recovered ones"
    assert (state.accuracy_sum, state.diversity_sum) == (1.5, 0.5)


def test_nothing_is_drawn_beside_nothing(filling):
    to, state = filling(drawn=6), RunState()
    fill(to, [], state)
    assert len(to.memory) == state.kept_tasks == 0


def test_few_tasks_are_kept_aside_and_only_once_the_memory_has_some(filling):
    to, state = filling(held_out=8), RunState()
    for _ in range(20):
        fill(to, [task()], state)
        assert len(to.held_out) <= max(4 + HELD_OUT_SHARE * to.memory.seen, 0)
    assert len(to.held_out) == 8
    assert len(to.memory) + len(to.held_out) == state.pictures == 80


def test_the_released_codes_defect_keeps_the_last_task_only(filling):
    to, state = filling(last_task_only=True), RunState()
    tasks = [task(), task()]
    fill(to, tasks, state)
    assert torch.equal(to.memory.images[: len(to.memory)], tasks[-1].images)
    assert state.kept_tasks == 1


def test_what_is_raised_in_a_pause_keeps_nothing(filling):
    def stop():
        raise InterruptedError

    to, state = filling(drawn=6), RunState()
    with pytest.raises(InterruptedError):
        fill(to, [task()], state, pause=stop)
    assert len(to.memory) == state.kept_tasks == state.pictures == 0
