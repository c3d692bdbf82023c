"""The table of logits: what is kept, saved and read back, and what an earlier version wrote."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from hf_free.data.logit_rows import LogitRows, row_width
from hf_free.errors import RunError
from hf_free.memory.bank import TaskMemory
from hf_free.memory.logit_table import LogitTable, row_bytes

SIZES = [3, 2, 5, 1]


def _rows(count, asked=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.stack([torch.randperm(4, generator=generator)[:asked] for _ in range(count)])
    values = torch.randn(count, row_width(SIZES, asked), generator=generator).half()
    return LogitRows(values, tuple(SIZES), blocks)


def _images(count):
    return torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 4).contiguous()


def _filled(count=10, budget=20):
    memory, rows = TaskMemory(budget, sizes=SIZES, asked=2), _rows(count)
    memory.add_pictures(_images(count), rows)
    return memory, rows


def test_a_picture_keeps_the_answers_of_those_who_were_asked():
    memory, rows = _filled()
    sample = memory.sample(50)
    expected = rows.dense()[sample.images[:, 0, 0, 0].long()].float()
    torch.testing.assert_close(sample.answers.dense(), expected, equal_nan=True)
    memory.add_pictures(_images(3))  # nobody was asked
    assert memory.said()[10:].dense().isnan().all()


def test_the_oldest_make_room():
    memory, rows = _filled(budget=6)
    torch.testing.assert_close(memory.said().dense(), rows[4:].dense()[[2, 3, 4, 5, 0, 1]].roll(2, 0), equal_nan=True)


def test_what_is_saved_is_read_back_and_is_not_dense(tmp_path):
    memory, rows = _filled()
    memory.save(tmp_path / "memory.safetensors")
    held = load_file(tmp_path / "memory.safetensors")
    assert held["answers"].shape == (10, 8)
    assert held["blocks"].shape == (10, 2)
    again = TaskMemory(20, sizes=SIZES, asked=2)
    again.load(tmp_path / "memory.safetensors")
    torch.testing.assert_close(again.said().dense(), rows.dense(), equal_nan=True)
    smaller = TaskMemory(4, sizes=SIZES, asked=2)
    smaller.load(tmp_path / "memory.safetensors")
    torch.testing.assert_close(smaller.said().dense(), rows[6:].dense(), equal_nan=True)


def test_memory_hardly_depends_on_the_number_of_teachers():
    assert row_bytes([5] * 1000, 25) == row_bytes([5] * 100, 25) == 2 * 125 + 4 * 25
    assert row_bytes([5] * 25, 25) == row_bytes([5] * 25, None) == 2 * 125  # all: no index


def test_a_memory_of_full_rows_that_an_earlier_version_wrote_goes_on(tmp_path):
    full = torch.randn(6, 11).half()
    tensors = {
        "images": _images(6),
        "answers": full,
        "class_ids": torch.full((6,), -1),
        "classes": torch.empty(0, 2, dtype=torch.long),
        "seen": torch.tensor(6),
    }
    save_file(tensors, tmp_path / "memory.safetensors")
    memory, rows = TaskMemory(20, sizes=SIZES, asked=2), _rows(5)
    memory.load(tmp_path / "memory.safetensors")
    memory.add_pictures(_images(5), rows)
    torch.testing.assert_close(memory.said().dense(), torch.cat([full, rows.dense()]), equal_nan=True)


def test_a_memory_of_other_teachers_is_refused(tmp_path):
    memory, _ = _filled()
    memory.save(tmp_path / "memory.safetensors")
    with pytest.raises(RunError, match="8 logits per image") as caught:
        TaskMemory(20, sizes=[7, 7, 7], asked=2).load(tmp_path / "memory.safetensors")
    assert "the version that wrote it" in str(caught.value)
    table = LogitTable(SIZES, asked=2)
    table.grow(4)
    with pytest.raises(RunError, match="teachers_per_image=2"):
        table.write(torch.arange(4), _rows(4, asked=3))
