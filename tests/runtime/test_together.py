"""A context of several threads: made by the first, ended by the last."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import pytest

from hf_free.runtime.together import Together


def test_it_is_made_once_for_all_who_are_in_it_and_ended_by_the_last():
    told = []

    @contextmanager
    def make():
        told.append("made")
        yield
        told.append("ended")

    together, both_in, first_out = Together(make), threading.Barrier(2, timeout=30), threading.Event()

    def other():
        with together:
            both_in.wait()
            assert first_out.wait(30)
            told.append("last")

    thread = threading.Thread(target=other)
    thread.start()
    with together:
        both_in.wait()
    told.append("first")
    first_out.set()
    thread.join()
    with together:
        pass
    assert told == ["made", "first", "last", "ended", "made", "ended"]


def test_an_error_ends_it_and_one_while_it_is_made_leaves_nobody_in_it():
    told = []

    @contextmanager
    def make():
        told.append("made")
        if len(told) == 1:
            raise OSError("not yet")
        yield
        told.append("ended")

    together = Together(make)
    with pytest.raises(OSError, match="not yet"), together:
        raise AssertionError
    with pytest.raises(KeyError), together:
        raise KeyError
    with together:
        pass
    assert told == ["made", "made", "ended", "made", "ended"]
