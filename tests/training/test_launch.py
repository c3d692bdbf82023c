"""Starting several processes: the port they meet at. That they run is in tests/system/test_several_processes.py."""

from __future__ import annotations

import os
import socket

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from hf_free.errors import RunError
from hf_free.training.folder import RunFolder
from hf_free.training.launch import free_port, is_another_attempt, launch
from hf_free.training.manifest import Manifest


def test_a_free_port_is_free():
    with socket.socket() as held:
        held.bind(("127.0.0.1", free_port()))


def test_no_free_port_is_said(monkeypatch):
    def refuses(self, address):
        raise OSError(98, "Address already in use")

    monkeypatch.setattr("hf_free.training.launch.socket.socket.bind", refuses, raising=False)
    with pytest.raises(RunError, match=r"no port is free.*Address already in use"):
        free_port()


def test_only_a_later_attempt_with_a_checkpoint_of_its_own_goes_on(tmp_path):
    again = {"TORCHELASTIC_RESTART_COUNT": "1"}
    run = RunFolder(tmp_path / "run")
    assert not is_another_attempt(run, again)
    written = run.write_checkpoint(
        lambda folder: (folder / "state.json").write_text('{"step": 4}'), Manifest(4, {}), keep=1, needed=0
    )
    assert is_another_attempt(run, again)
    assert not is_another_attempt(run, {"TORCHELASTIC_RESTART_COUNT": "0"})
    assert not is_another_attempt(run, {})
    os.utime(written / "state.json", (0, 0))  # older than whoever has started this process
    assert not is_another_attempt(run, again)


def test_a_process_that_is_killed_is_named(monkeypatch, caplog):
    dead = {1: ProcessFailure(local_rank=1, pid=1, exitcode=-9, error_file="none")}

    def ends(_):
        raise ChildFailedError("hf_free", dead)

    monkeypatch.setattr("accelerate.commands.launch.launch_command", ends)
    for name in ("OMP_NUM_THREADS", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "TORCH_CPP_LOG_LEVEL"):
        monkeypatch.setenv(name, "1")  # it sets what is missing, for the processes that it starts
    assert launch(["methods"], 2) == 128 + 9
    assert caplog.messages == ["rank 1 of 2 was ended by SIGKILL from outside, perhaps for its memory"]
