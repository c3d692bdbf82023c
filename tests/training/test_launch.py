"""Starting several processes: the port they meet at. That they run is in tests/system/test_several_processes.py."""

from __future__ import annotations

import os
import socket

import pytest

from hf_free.errors import RunError
from hf_free.training.folder import RunFolder
from hf_free.training.launch import free_port, is_another_attempt
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
