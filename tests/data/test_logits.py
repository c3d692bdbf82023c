"""Which columns of a row of logits are whose."""

from __future__ import annotations

from dataclasses import replace

import torch

from hf_free.data.logits import MAX_ANSWERS, LogitLayout


def test_every_teacher_has_its_own_columns():
    counts = [5, 2, 64, 65, 1000]
    layout = LogitLayout.of(counts, seed=3)
    assert layout.sizes == [5, 2, 64, 64, 64]
    assert layout.width == 5 + 2 + 3 * 64
    covered = [column for i in range(5) for column in range(layout.width)[layout.columns(i)]]
    assert covered == list(range(layout.width))
    for block, count in zip(layout.blocks, counts, strict=True):
        assert (block.chosen is None) == (count <= MAX_ANSWERS)
        if block.chosen is not None:
            assert list(block.chosen) == sorted(set(block.chosen))
            assert len(block.chosen) == MAX_ANSWERS
            assert 0 <= min(block.chosen) <= max(block.chosen) < count
    again, other = LogitLayout.of(counts, seed=3), LogitLayout.of(counts, seed=4)
    assert again == layout  # a resumed run asks for the same classes
    assert other.blocks[4].chosen != layout.blocks[4].chosen


def test_teachers_that_are_known_keep_their_block_and_new_ones_come_behind():
    first = LogitLayout.of([3, 100], seed=1)
    earlier = [replace(block, teachers=()) for block in first.blocks]
    layout = LogitLayout.of([5, 100, 70], seed=2, earlier=earlier, known=[None, 1, None])
    assert [(block.teacher, block.start, block.size) for block in layout.blocks] == [
        (None, 0, 3),
        (1, 3, 64),
        (0, 67, 5),
        (2, 72, 64),
    ]
    assert layout.blocks[1].chosen == first.blocks[1].chosen  # the learner predicts these outputs already
    assert layout.blocks[3].chosen == LogitLayout.of([5, 100, 70], seed=2).blocks[2].chosen
    assert layout.columns(0) == slice(67, 72)
    twice = LogitLayout.of([100, 100], earlier=earlier, known=[1, 1])
    assert twice.blocks[1].teachers == (0, 1)  # listed twice: one block
    assert twice.columns(0) == twice.columns(1)
    assert layout.places(torch.tensor([2, 0, 1, 7])).tolist() == [3, 2, 1, -1]


def test_a_layout_without_some_teachers_closes_up():
    layout = LogitLayout.of([3, 2, 4]).without([1, 5])
    assert [(block.teacher, block.start, block.size) for block in layout.blocks] == [(0, 0, 3), (2, 3, 4)]
    assert layout.places(torch.arange(3)).tolist() == [0, -1, 1]
    assert (layout.sizes, layout.width) == ([3, 4], 7)
