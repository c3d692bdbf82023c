"""Times and memory, measured and amortized."""

from __future__ import annotations

import sys

import torch
from benchmark import measuring


def test_works_take_turns_and_one_round_is_not_counted():
    order = []
    works = [lambda: order.append("a"), lambda: order.append("b")]
    seconds = measuring.alternating_seconds(works, torch.device("cpu"), rounds=2)
    assert order == ["a", "b"] * 3
    assert len(seconds) == 2
    assert all(value > 0 for value in seconds)


def test_machine_and_memory_are_those_of_this_process():
    device = torch.device("cpu")
    before = measuring.peak_memory(device)["process"]
    block = torch.ones(64 * 2**20, dtype=torch.uint8)
    after = measuring.peak_memory(device)["process"]
    assert 32 * 2**20 < before <= after < 2**40  # MiB, not KiB: importing torch alone takes more than 32
    assert len(block) == 64 * 2**20
    about = measuring.machine(device)
    assert about["threads"] == torch.get_num_threads()
    assert about["versions"]["torch"] == torch.__version__
    assert about["processor"]


def test_matmul_peak_is_of_a_computers_size():
    peak = measuring.matmul_peak(torch.device("cpu"), torch.float32, seconds=0.01)
    assert 1e8 < peak < 1e15


def test_the_peak_of_memory_is_known_without_resource(monkeypatch):
    """As on Windows, where psutil knows it."""
    known = measuring.peak_memory(torch.device("cpu"))["process"]
    monkeypatch.setitem(sys.modules, "resource", None)
    assert 0.2 * known < measuring.peak_memory(torch.device("cpu"))["process"] <= 1.5 * known
