"""Curves of a run's log."""

from __future__ import annotations

import numpy as np
import pytest
from drawn import pixels

from hf_free.reporting.loss_curves import loss_curves, range_of_steps, running_mean


def test_loss_curves_draw_a_panel_for_each_finite_number(tmp_path):
    rows = [{"step": step, "minutes": step / 60, "loss": 1 / (step + 1), "phase": "warm"} for step in range(50)]
    one = pixels(loss_curves(rows, tmp_path / "one.png"))
    more = [{**row, "other": 2.0, "third": float("nan") if row["step"] % 2 else 1.0, "flag": True} for row in rows]
    three = pixels(loss_curves(more, tmp_path / "three.png"))
    assert three.shape[0] == one.shape[0]
    assert 2.5 < three.shape[1] / one.shape[1] < 3
    four = pixels(loss_curves([{**row, "fourth": 1} for row in more], tmp_path / "four.png"))
    assert four.shape[1] == three.shape[1]
    assert four.shape[0] > 1.5 * three.shape[0]


def test_panels_have_one_range_of_steps():
    first, last = range_of_steps([np.arange(0.0, 101.0), np.arange(10.0, 31.0)])
    assert (first, last) == (-5, 105)
    assert range_of_steps([np.array([3.0])]) == (2, 4)


def test_the_size_of_the_memory_is_no_curve(tmp_path):
    rows = [{"step": step, "loss": 1.0} for step in range(3)]
    plain, beside = tmp_path / "a.png", tmp_path / "b.png"
    loss_curves(rows, plain)
    loss_curves([{**row, "memory": 7} for row in rows], beside)
    assert plain.read_bytes() == beside.read_bytes()


@pytest.mark.parametrize(
    "rows", [[], [{"step": 1, "phase": "x"}], [{"loss": 1.0}], [{"step": 3, "loss": float("inf")}]]
)
def test_loss_curves_of_short_logs_are_drawn(rows, tmp_path):
    assert pixels(loss_curves(rows, tmp_path / "x.png")).min() < 200  # something is said


def test_running_mean_is_the_mean_of_the_neighbors():
    values = np.random.default_rng(0).normal(size=30)
    expected = [values[max(0, i - 4) : i + 5].mean() for i in range(30)]
    assert running_mean(values, 4) == pytest.approx(expected)
