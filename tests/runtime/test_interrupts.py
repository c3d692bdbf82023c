"""What a first Ctrl-C says: what happens next, and what a second one would lose."""

from __future__ import annotations

import logging
import signal
import threading

import pytest
import torch

from hf_free.runtime.interrupts import STOP_SIGNALS, StopBetweenSteps, StopNoted, Stopped, ended_like_ctrl_c
from hf_free.training.folder import RunFolder
from hf_free.training.manifest import Manifest

OTHERS = [number for number in STOP_SIGNALS if number not in (signal.SIGINT, signal.SIGTERM)]


@pytest.fixture(autouse=True)
def _handlers_as_in_a_terminal():
    usual = dict.fromkeys(STOP_SIGNALS, signal.SIG_DFL) | {signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def _said(caplog, run):
    with caplog.at_level(logging.WARNING), pytest.raises(Stopped), StopBetweenSteps(run) as stop:  # noqa: PT012
        stop.grant()
        assert caplog.messages == []
        signal.raise_signal(signal.SIGINT)
        stop.grant()
    return caplog.messages


def test_the_first_ctrl_c_says_what_a_second_would_lose(caplog, tmp_path):
    run = RunFolder(tmp_path)
    run.write_checkpoint(lambda folder: (folder / "state.json").write_text('{"step": 40}'), Manifest(40))
    (message,) = _said(caplog, run)
    assert message == (
        "stopping with a checkpoint, within seconds; Ctrl-C once more stops now, without one (the last is of step 40)"
    )


def test_before_the_first_checkpoint_it_says_so(caplog, tmp_path):
    (message,) = _said(caplog, RunFolder(tmp_path))
    assert message.endswith("without one (there is none yet)")


def test_a_checkpoint_that_cannot_be_read_does_not_keep_a_run_from_stopping(caplog, tmp_path):
    run = RunFolder(tmp_path)
    run.write_checkpoint(lambda folder: (folder / "state.json").write_text("{"), Manifest(40))
    (message,) = _said(caplog, run)
    assert message.endswith("(there is none yet)")


# ---- SIGTERM, and steps that take long


def test_sigterm_stops_between_steps_like_ctrl_c():
    with ended_like_ctrl_c():
        with pytest.raises(Stopped), StopBetweenSteps() as stop:  # noqa: PT012
            signal.raise_signal(signal.SIGTERM)
            assert stop.wanted
            stop.grant()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_of_either_kind_stops_at_once(second):
    with ended_like_ctrl_c(), pytest.raises(KeyboardInterrupt), StopBetweenSteps() as stop:  # noqa: PT012
        signal.raise_signal(signal.SIGTERM)
        assert stop.wanted
        signal.raise_signal(second)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("number", OTHERS)
def test_what_schedulers_and_terminals_send_stops_between_steps_and_its_repetition_changes_nothing(number, caplog):
    with ended_like_ctrl_c():
        with pytest.raises(Stopped) as stopped, StopBetweenSteps() as stop:  # noqa: PT012
            signal.raise_signal(number)
            signal.raise_signal(number)  # SIGXCPU comes each second
            stop.grant()
        assert stopped.value.number == number
        assert [message.split(":")[0] for message in caplog.messages] == [signal.Signals(number).name]
    assert signal.getsignal(number) is signal.SIG_DFL


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_after_another_signal_stops_at_once(second):
    if not OTHERS:
        pytest.skip("no such signal here")
    with ended_like_ctrl_c(), pytest.raises(KeyboardInterrupt), StopBetweenSteps():  # noqa: PT012
        signal.raise_signal(OTHERS[0])
        signal.raise_signal(second)
        pytest.fail("went on")


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_an_ignored_signal_stays_ignored(number):
    """SIGINT of a shell's background job, SIGHUP under nohup."""
    signal.signal(number, signal.SIG_IGN)
    with ended_like_ctrl_c(), StopBetweenSteps() as stop:
        signal.raise_signal(number)
        assert not stop.wanted
    assert signal.getsignal(number) is signal.SIG_IGN


def test_outside_the_steps_sigterm_is_an_exception_that_cleans_up():
    with pytest.raises(Stopped), ended_like_ctrl_c():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_who_sees_to_sigterm_himself_goes_on_doing_so():
    seen = []
    signal.signal(signal.SIGTERM, lambda *_: seen.append("mine"))
    with ended_like_ctrl_c(), StopBetweenSteps() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert not stop.wanted
    assert seen == ["mine"]


@pytest.mark.parametrize(("grace", "is_stopped"), [(0.0, True), (1e9, False)])
def test_a_long_step_is_stopped_before_the_next_forward_pass(monkeypatch, grace, is_stopped):
    monkeypatch.setattr("hf_free.runtime.interrupts.GRACE_SECONDS", grace)
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
    passes = []
    network.register_forward_hook(lambda *_: passes.append(1))
    with pytest.raises(Stopped), StopBetweenSteps() as stop:  # noqa: PT012
        network(torch.ones(1, 2))  # not asked yet
        signal.raise_signal(signal.SIGINT)
        network(torch.ones(1, 2))
        stop.grant()
    assert stop.inside_step is is_stopped
    assert len(passes) == 2 - is_stopped
    network(torch.ones(1, 2))  # nothing of it is left


def test_networks_of_other_threads_are_left_alone(monkeypatch):
    monkeypatch.setattr("hf_free.runtime.interrupts.GRACE_SECONDS", 0.0)
    network, answers = torch.nn.Linear(2, 2), []
    with StopBetweenSteps():
        signal.raise_signal(signal.SIGINT)
        thread = threading.Thread(target=lambda: answers.append(network(torch.ones(1, 2))))
        thread.start()
        thread.join()
    assert len(answers) == 1


def test_a_wait_ends_whatever_a_signal_falls_into():
    """An exception that a finalizer raises is lost, and with it the wish to stop."""

    class Finalized:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    with ended_like_ctrl_c(), StopNoted() as stop:
        thing = Finalized()
        del thing
        stop.wait()
        assert stop.wanted
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
