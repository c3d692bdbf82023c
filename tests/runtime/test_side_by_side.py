"""Work on many things in threads: in order, with the caller's modes, one thread to compute with in each."""

from __future__ import annotations

import threading

import pytest
import torch

from hf_free.runtime.side_by_side import MOST_WORKERS, in_order


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_results_come_in_the_order_of_the_items_though_a_later_one_is_ready_first():
    second = threading.Event()

    def work(item):
        if item == 0:
            assert second.wait(30)
        if item == 1:
            second.set()
        return item * item

    assert list(in_order(work, range(20))) == [item * item for item in range(20)]


def test_each_worker_computes_with_one_thread_and_the_callers_modes_and_the_caller_keeps_its_own():
    def modes(_):
        here = torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
        return torch.get_num_threads(), threading.current_thread() is threading.main_thread(), *here

    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        inside = list(in_order(modes, range(4)))
    outside = list(in_order(modes, range(2)))
    assert set(inside) == {(1, False, False, True, torch.bfloat16)}
    assert {one[:4] for one in outside} == {(1, False, True, False)}
    found = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start(), thread.join()
    assert [torch.get_num_threads(), *found] == [2, 2]  # threads begun later have not one either


def test_weights_that_the_work_changes_are_those_that_it_goes_on_with():
    """Autocast keeps what it has cast of weights until the outermost of its regions is over."""

    def work(start):
        layer = torch.nn.Linear(1, 1, bias=False)
        seen = []
        for value in (start, start + 1.0):
            with torch.no_grad():
                layer.weight.fill_(value)
            with torch.autocast("cpu", torch.bfloat16):
                seen.append(layer(torch.ones(1, 1)).item())
        return seen

    assert list(in_order(work, [1.0, 4.0, 8.0])) == [[1.0, 2.0], [4.0, 5.0], [8.0, 9.0]]


def test_several_threads_share_out_what_the_caller_computes_with():
    found = list(in_order(lambda _: torch.get_num_threads(), range(4), workers=2, threads_each=3))
    assert found == [3] * 4
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("workers", [None, 1])
def test_an_error_comes_in_its_place_and_ends_the_work(workers):
    seen, done = [], []

    def work(item):
        seen.append(item)
        if item == 2:
            raise ValueError("it")
        return item

    with pytest.raises(ValueError, match="it"):
        done.extend(in_order(work, range(100), workers))
    assert done == [0, 1]  # what `extend` had got until then
    assert len(seen) < 10


def test_with_one_thread_the_caller_works_itself_item_by_item():
    torch.set_num_threads(1)
    taken = []

    def items():
        for item in range(3):
            taken.append(item)
            yield item

    for one in in_order(lambda item: (item, threading.current_thread()), items()):
        assert one == (taken[-1], threading.main_thread())


def test_a_machine_of_many_cores_does_not_hold_as_many_parts_at_once():
    torch.set_num_threads(MOST_WORKERS + 4)
    taken = []

    def items():
        for number in range(4 * MOST_WORKERS):
            taken.append(number)
            yield number

    results = in_order(lambda item: item, items())
    assert next(results) == 0
    assert len(taken) == 2 * MOST_WORKERS
    assert list(results) == list(range(1, 4 * MOST_WORKERS))
