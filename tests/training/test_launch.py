"""Starting several processes: the port they meet at. That they run is in tests/system/test_several_processes.py."""

from __future__ import annotations

import socket

import pytest

from hf_free.errors import RunError
from hf_free.training.launch import free_port


def test_a_free_port_is_free():
    with socket.socket() as held:
        held.bind(("127.0.0.1", free_port()))


def test_no_free_port_is_said(monkeypatch):
    def refuses(self, address):
        raise OSError(98, "Address already in use")

    monkeypatch.setattr("hf_free.training.launch.socket.socket.bind", refuses, raising=False)
    with pytest.raises(RunError, match=r"no port is free.*Address already in use"):
        free_port()
