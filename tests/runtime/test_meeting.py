"""Processes that are started again meet each other, not those that have gone."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch.distributed as dist

from hf_free.runtime.meeting import meet

PATIENCE = timedelta(seconds=60)


def _meet_all(store, count, first_comes_last=False):
    """Each rank in a thread of its own."""
    with ThreadPoolExecutor(count) as threads:
        ranks = reversed(range(count)) if first_comes_last else range(count)
        waiting = {}
        for rank in ranks:
            waiting[rank] = threads.submit(meet, store, rank, count, PATIENCE)
            if first_comes_last:
                time.sleep(0.1)
        return [waiting[rank].result() for rank in range(count)]


def test_each_attempt_has_a_part_of_the_store_of_its_own():
    store = dist.HashStore()
    before = _meet_all(store, 3)
    before[0].set("address", "of a dead process")
    assert {part.get("address") for part in before} == {b"of a dead process"}
    now = _meet_all(store, 3, first_comes_last=True)  # the others find the name of the attempt before
    assert not now[1].check(["address"])
    now[2].set("address", "of a live one")
    assert {part.get("address") for part in now} == {b"of a live one"}
    assert before[0].get("address") == b"of a dead process"


def test_who_called_and_died_is_not_waited_for():
    store = dist.HashStore()
    with pytest.raises(RuntimeError, match="rank 1, rank 2 did not come in time"):
        meet(store, 0, 3, timedelta(seconds=0.1))
    with pytest.raises(RuntimeError, match="rank 0 did not come in time"):
        meet(store, 1, 3, timedelta(seconds=0.2))  # it answers to the dead one's call
    now = _meet_all(store, 3, first_comes_last=True)
    now[0].set("key", "value")
    assert now[2].get("key") == b"value"
