"""The table of scale: what is counted from made-up measurements, by hand."""

from __future__ import annotations

import json
import sys

import pytest
from benchmark.scale import BUDGET, counted, main

NOTHING = {"fixed_bytes": 0.0, "image_bytes": 0.0, "fixed_seconds": 0.0, "image_seconds": 0.0}
CELL = {
    "network": "conv4_64",
    "size": 32,
    "inversion": {**NOTHING, "image_seconds": 0.01},
    "answer": {**NOTHING, "fixed_seconds": 0.002, "image_seconds": 0.001},
    "drawing": {**NOTHING, "image_seconds": 0.001},
    "update": {**NOTHING, "image_seconds": 0.001, "image_bytes": 1e6},
    "wide": {**NOTHING, "fixed_seconds": 2.0, "fixed_bytes": 3e6},
    "kept_learning": 0.0,
    "kept_inverting": 0.0,
    "load_seconds": 0.5,
    "held_bytes": 1e9,
    "weight_bytes": 1e6,
    "parameters": 100_000,
    "features": 256,
    "generator": 1_000_000,
    "precision": "bf16",
}


def test_a_step_of_one_process_by_hand():
    one = counted(CELL, 32, 4, 1, 1e9)
    asked = 4 * 20 * 5 + 512
    assert one.inverting == pytest.approx(4 * 100 * 0.01)
    assert one.asking == pytest.approx(512 * 0.001 + 4 * 0.002 + 4 * asked * 0.001)
    wider = 10 / 4990 * (2.0 - 4 * 0.001)  # four teachers' answers are ten more than two's
    assert one.learning == pytest.approx(10 * (256 * 0.001 + wider))
    assert (one.loading, one.sending) == (0, 0)


def test_two_processes_share_out_all_but_what_they_send():
    one, two = (counted(CELL, 32, 1000, count, 1e9) for count in (1, 2))
    assert two.inverting == pytest.approx(one.inverting / 2)
    images = 10 * 256 * 0.001
    assert two.learning == pytest.approx(one.learning - images / 2)  # the optimizer's work is every process's
    assert two.asking == pytest.approx(one.asking / 2)
    packed = 4 * (100_000 + 5000 * 256)
    assert two.received_bytes > 10 * packed + 4 * 1_000_000
    assert two.sending == pytest.approx(two.received_bytes / 1e9)
    assert counted(CELL, 32, 1000, 2, 1e8).sending == pytest.approx(10 * two.sending)


def test_larger_images_are_counted_by_their_area():
    small, large = (counted(CELL, size, 4, 1, 1e9) for size in (32, 64))
    assert large.inverting == pytest.approx(4 * small.inverting)
    assert large.peak_bytes > small.peak_bytes


def test_teachers_beyond_the_budget_are_loaded_again_in_each_step():
    heavy = {**CELL, "weight_bytes": BUDGET / 2}
    found = {teachers: counted(heavy, 32, teachers, 1, 1e9) for teachers in (2, 4)}
    assert found[2].loading == 0
    assert found[4].loading == pytest.approx((4 + 4) * 0.5 * 0.5)  # of those asked and inverted, half is not there
    assert found[4].peak_bytes < 1e9 + 1.01 * BUDGET + 1e9


def test_the_table_and_what_comes_beyond_it_are_printed_from_a_file(tmp_path, monkeypatch, capsys):
    (tmp_path / "cells.json").write_text(json.dumps([CELL]))
    words = ["scale", "--from", str(tmp_path / "cells.json"), "--sizes", "32", "84"]
    monkeypatch.setattr(sys, "argv", words)
    main()
    shown = capsys.readouterr().out
    assert "Conv-4, 32 pixels (measured)" in shown
    assert "Conv-4, 84 pixels (counted from 32 pixels)" in shown
    assert shown.count("| 1,000 |") == 2
    monkeypatch.setattr(sys, "argv", [*words, "--beyond", "100000", "100", "--speed", "1000"])
    main()
    assert "100,000 teachers, 100 processes" in capsys.readouterr().out.splitlines()[0]
