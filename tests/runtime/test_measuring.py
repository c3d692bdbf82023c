"""Seconds of a piece of work."""

from __future__ import annotations

import time

import torch

from hf_free.runtime.measuring import busy_seconds_of, seconds_of


def test_waiting_takes_time_and_keeps_no_processor_busy():
    device = torch.device("cpu")
    assert seconds_of(lambda: time.sleep(0.05), device) >= 0.05
    assert 0 <= busy_seconds_of(lambda: time.sleep(0.05), device) < 0.05
