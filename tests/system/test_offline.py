"""Offline is complete, or refused: no address is looked up and no socket opened, for cards and licenses neither."""

from __future__ import annotations

import json

import pytest
from pico import pico_files

GUARD = """
import os, socket

def leave(*arguments, **options):
    os.write(2, f"a socket was used: {arguments}\\n".encode())
    os._exit(97)

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = leave
"""
"""What a process runs before anything else: its first connection, or question for an address, is its end."""


@pytest.fixture
def offline(run_client):
    """Run hf-free in a process that must not open a socket."""

    def run(*commands):
        lines = "".join(f"print('code', main({list(words)!r}), flush=True)\n" for words in commands)
        return run_client(f"{GUARD}\nfrom hf_free.cli.main import main\n{lines}", check=False, imports=True)

    return run


def test_what_was_fetched_once_is_there_and_the_rest_is_refused(hub, run_client, offline):
    card = b"---\nlicense: cc-by-nc-4.0\n---\n# Net\n"
    hub.add_repo("offline/teacher", {**pico_files("conv4"), "README.md": card})
    online = "import sys; from hf_free.cli.main import main; sys.exit(main(['inspect', 'offline/teacher', '--json']))"
    before = run_client(online)
    assert offline(("search", "birds")).returncode == 97, "the guard works: asking the Hub ends the process"

    plan = ("train", "--models", "offline/teacher", "offline/other", "--dry-run", "--offline")
    refusals = (plan, ("search", "birds", "--offline"), ("--offline", "inspect", "offline/other"))
    done = offline(("inspect", "offline/teacher", "--json", "--offline"), *refusals)
    assert done.returncode == 0, done.stderr
    rows, *codes = done.stdout.split("code ")
    assert [code.strip() for code in codes] == ["0", "1", "1", "1"]
    (row,), (online_row,) = json.loads(rows), json.loads(before.stdout)
    assert row["record"]["license"] == "cc-by-nc-4.0"
    same = ("commit", "license", "private", "sha256", "label_names")
    assert {key: row["record"][key] for key in same} == {key: online_row["record"][key] for key in same}
    assert done.stderr.count("HF_HUB_OFFLINE is set") == len(refusals)
    assert done.stderr.count("to do:") >= len(refusals)
