"""Each part of a step is tried at growing sizes, and a line goes through what was seen."""

from __future__ import annotations

import pytest
import torch
from replacing import replace_everywhere

from hf_free.training.trial import Load, line_through, measure


@pytest.fixture(autouse=True)
def _each_size_is_done_again_until_its_time_is_sure(monkeypatch):
    """As outside the tests, whose other runs do without."""
    monkeypatch.setattr("hf_free.training.trial.ONCE_IS_ENOUGH", 1.5)
    monkeypatch.setattr("hf_free.training.trial.LONG", 0.5)


def test_a_line_goes_through_the_last_two_sizes():
    line = line_through([(1, 500.0, 9.0), (4, 1400.0, 2.0), (16, 4400.0, 5.0)])
    assert (line.fixed_bytes, line.image_bytes) == (400, 250)
    assert (line.fixed_seconds, line.image_seconds) == (1, 0.25)
    assert (line.bytes(100), line.seconds(100)) == (25_400, 26)
    assert (line.images_within(25_400), line.images_within(25_399), line.images_within(10)) == (100, 99, 0)
    assert line_through([(4, 1000.0, 2.0)]) == Load(0, 250, 0, 0.5)


def test_sizes_grow_until_a_room_is_full(monkeypatch):
    done = []
    replace_everywhere(
        monkeypatch, "hf_free.runtime.memory_budget.peak_memory", lambda work, device: work() or 100 * done[-1]
    )
    replace_everywhere(monkeypatch, "hf_free.runtime.measuring.busy_seconds_of", lambda work, device: 0.01)
    measure(done.append, torch.device("cpu"), least=4, most=1000, room=30_000, seconds=60)
    assert done == [4, 16, 64, 256]  # 1,000 would take 100,000
    done.clear()
    measure(done.append, torch.device("cpu"), least=4, most=20, room=30_000, seconds=60)
    assert done == [4, 16, 20]
    done.clear()
    measure(done.append, torch.device("cpu"), least=4, most=20, room=30_000, seconds=60, timed=False)
    assert done == [4]  # 20 are 2,000: far below the room
    done.clear()
    measure(done.append, torch.device("cpu"), least=4, most=1000, room=30_000, seconds=60, is_enough=lambda line: True)
    measure(done.append, torch.device("cpu"), least=2, most=1000, room=30_000, seconds=60, once=True)
    assert done == [4, 2]
