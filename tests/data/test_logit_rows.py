"""Rows of logits of some teachers: where each value belongs."""

from __future__ import annotations

import pytest
import torch

from hf_free.data.logit_rows import LogitRows, row_width

SIZES = (3, 2, 5, 1)


def _rows():
    """Block b of row n says 10 n + b in its first class, and a tenth more in each next one."""
    blocks = torch.tensor([[2, 0], [3, 1], [1, -1], [0, 2]])
    values = torch.full((4, row_width(SIZES, 2)), 99.0)
    full = torch.full((4, 11), torch.nan)
    firsts = [0, 3, 5, 10]
    for row, chosen in enumerate(blocks.tolist()):
        said = []
        for block in (block for block in chosen if block >= 0):
            numbers = 10 * row + block + torch.arange(SIZES[block]) / 10
            full[row, firsts[block] : firsts[block] + SIZES[block]] = numbers
            said.append(numbers)
        said = torch.cat(said)
        values[row, : len(said)] = said
    return LogitRows(values, SIZES, blocks), full


def test_every_value_goes_to_its_teachers_columns():
    rows, full = _rows()
    torch.testing.assert_close(rows.dense(), full, equal_nan=True)
    torch.testing.assert_close(rows[torch.tensor([2, 0])].dense(), full[[2, 0]], equal_nan=True)
    parts = [part.dense() for part in rows.tensor_split(3)]
    torch.testing.assert_close(torch.cat(parts), full, equal_nan=True)


def test_rows_of_all_teachers_are_their_values():
    full = torch.randn(4, 11)
    assert LogitRows(full, SIZES).dense() is full


@pytest.mark.parametrize("kept", [(True, False, True, True), (False, True, True, False), (True,) * 4])
@pytest.mark.parametrize("is_full", [True, False])
def test_without_some_teachers_the_others_close_up(kept, is_full):
    rows, full = _rows()
    columns = torch.tensor(kept).repeat_interleave(torch.tensor(SIZES))
    found = (LogitRows(full, SIZES) if is_full else rows).keeping(kept)
    assert found.sizes == tuple(size for size, is_kept in zip(SIZES, kept, strict=True) if is_kept)
    torch.testing.assert_close(found.dense(), full[:, columns], equal_nan=True)


def test_a_row_is_as_wide_as_the_largest_teachers():
    assert [row_width(SIZES, asked) for asked in (1, 2, 3, 4, 9)] == [5, 8, 10, 11, 11]
