"""What a first Ctrl-C says: what happens next, and what a second one would lose."""

from __future__ import annotations

import logging
import signal

import pytest

from hf_free.run_folder import RunFolder
from hf_free.stopping import StopBetweenSteps, Stopped


@pytest.fixture(autouse=True)
def _python_handles_ctrl_c():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def _said(caplog, run):
    with caplog.at_level(logging.WARNING), pytest.raises(Stopped), StopBetweenSteps(run) as stop:  # noqa: PT012
        stop.grant()
        assert caplog.messages == []
        signal.raise_signal(signal.SIGINT)
        stop.grant()
    return caplog.messages


def test_the_first_ctrl_c_says_what_a_second_would_lose(caplog, tmp_path):
    run = RunFolder(tmp_path)
    run.write_checkpoint(lambda folder: (folder / "state.json").write_text('{"step": 40}'))
    (message,) = _said(caplog, run)
    assert message == (
        "stopping with a checkpoint after this step; Ctrl-C once more stops now, without one (the last is of step 40)"
    )


def test_before_the_first_checkpoint_it_says_so(caplog, tmp_path):
    (message,) = _said(caplog, RunFolder(tmp_path))
    assert message.endswith("without one (there is none yet)")


def test_a_checkpoint_that_cannot_be_read_does_not_keep_a_run_from_stopping(caplog, tmp_path):
    run = RunFolder(tmp_path)
    run.write_checkpoint(lambda folder: (folder / "state.json").write_text("{"))
    (message,) = _said(caplog, run)
    assert message.endswith("(there is none yet)")
