"""A signal that ends a command ends it in order."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from pathlib import Path

import pytest
import torch
from pico import pico_teacher
from torch import nn

from hf_free.config.sections import LearnerConfig
from hf_free.learner.meta_learner import MetaLearner
from hf_free.runtime.end_signals import EndedBySignal, ended_in_order, would_end
from hf_free.runtime.interrupts import Stopped, ended_like_ctrl_c


@pytest.fixture(params=["SIGTERM", "SIGHUP"])
def number(request):
    """A signal, with the handler that a new process has."""
    if not hasattr(signal, request.param):
        pytest.skip("there is no such signal")
    found = getattr(signal, request.param)
    before = signal.signal(found, signal.SIG_DFL)
    yield found
    signal.signal(found, before)


def test_what_was_begun_goes_and_the_code_is_that_of_a_shell(number):
    with pytest.raises(EndedBySignal) as ended, ended_in_order(), tempfile.TemporaryDirectory() as folder:
        signal.raise_signal(number)
    assert ended.value.status == 128 + number
    assert not Path(folder).exists()
    assert signal.getsignal(number) is signal.SIG_DFL


def test_a_run_inside_takes_it_over_and_gives_it_back(number):
    with ended_in_order():
        assert would_end(number)
        with pytest.raises(Stopped), ended_like_ctrl_c():
            signal.raise_signal(number)
        assert would_end(number)
        with pytest.raises(EndedBySignal):
            signal.raise_signal(number)


def test_one_that_comes_while_a_network_is_asked_is_no_fault_of_the_network(number):
    class Signaled(nn.Module):
        def forward(self, x):
            signal.raise_signal(number)

    teacher = pico_teacher("conv4", size=16)
    teacher.network.blocks[0].conv = Signaled()
    teacher.has_answered = True
    learner = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16))
    learner.backbone = Signaled()
    for asked in (teacher.logits, teacher.labels, learner.features):
        with pytest.raises(EndedBySignal), ended_in_order():
            asked(torch.rand(2, 3, 16, 16))


def test_what_is_ignored_stays_so_and_other_threads_leave_it(number):
    signal.signal(number, signal.SIG_IGN)
    with ended_in_order():
        assert not would_end(number)
        signal.raise_signal(number)
    signal.signal(number, signal.SIG_DFL)
    found = []

    def elsewhere():
        with ended_in_order():
            found.append(signal.getsignal(number))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [signal.SIG_DFL]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks there")
def test_a_fork_ends_at_once_and_removes_nothing(number):
    with ended_in_order(), tempfile.TemporaryDirectory() as folder:
        if (child := os.fork()) == 0:
            try:
                signal.raise_signal(number)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -number
        assert Path(folder).exists()
