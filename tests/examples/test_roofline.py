"""`examples/benchmark roofline`: what limits FIVE's inner step."""

from __future__ import annotations

import pytest
import torch
from benchmark.roofline import Timing, measured, table
from pico import pico_folder


def test_operations_are_counted_with_what_they_compute_and_move_and_views_move_nothing():
    left, right = torch.randn(2, 30, 30).unbind()
    with Timing(1e9, 1e6) as timing:
        left.T.view(900 // 30, 30)
        torch.mm(left, right)
        left + right
    product, added = timing.kinds["mm"], timing.kinds["add"]
    assert (product.calls, product.flops, product.bytes) == (1, 2 * 30**3, 3 * 4 * 900)
    assert product.limit == pytest.approx(3 * 4 * 900 / 1e6), "the memory is slower"
    assert (added.flops, added.bytes) == (0, 3 * 4 * 900)
    assert sum(kind.bytes for kind in timing.kinds.values()) == 6 * 4 * 900


def test_the_share_that_is_possible_follows_from_all_limits(tmp_path):
    found = measured(str(pico_folder(tmp_path / "teacher", size=16)), rounds=1, seconds=0.005)
    operations = found["operations"].values()
    assert found["limit"] == pytest.approx(sum(one["limit"] for one in operations))
    flops = sum(one["flops"] for one in operations)
    assert found["possible"] == pytest.approx(flops / found["flops_per_second"] / found["limit"])
    assert 0 < found["possible"] <= 1
    assert found["operations"]["convolution"]["flops"] > 0
    *rows, last = table(found)
    assert f"could reach {found['possible']:.0%}" in last
    assert any(row.startswith("| convolution_backward |") for row in rows)
