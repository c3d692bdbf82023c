"""What a launcher says to a process, and what becomes of the process when the launcher dies."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hf_free.errors import ConfigError, RunError
from hf_free.runtime.launched import Launched, check_processes


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Launched()),
        ({"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}, Launched()),
        ({"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}, Launched(1, 2, 1, 2)),
        ({"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}, Launched(5, 8, 1, 4)),
    ],
)
def test_a_process_knows_its_rank(environment, expected):
    assert Launched.here(environment) == expected
    assert Launched.here(environment).is_first == (expected.rank == 0)


def test_machines_have_as_many_processes_each():
    assert [Launched(0, count, 0, each).machines for count, each in ((1, 1), (8, 4), (9, 4))] == [1, 2, 3]


@pytest.mark.parametrize(
    "environment",
    [
        {"RANK": "2", "LOCAL_RANK": "0", "WORLD_SIZE": "2"},
        {"LOCAL_RANK": "3"},
        {"RANK": "8", "LOCAL_RANK": "0"},
        {"WORLD_SIZE": "2"},
        {"RANK": "x"},
        {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "4"},
    ],
)
def test_an_environment_that_makes_no_sense_is_refused(environment):
    with pytest.raises(RunError, match="make no sense") as refused:
        Launched.here(environment)
    assert all(f"{name}={value}" in str(refused.value) for name, value in environment.items())


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_launcher_that_is_killed_leaves_no_process_behind():
    child = (
        "import time; from hf_free.runtime.launched import end_with_launcher; end_with_launcher();"
        "print('ready', flush=True); time.sleep(600)"
    )
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    launcher = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    assert launcher.stdout.readline() == "ready\n"
    launcher.kill()
    assert launcher.stdout.read() == ""  # ends when the last process that could write to it is gone
    launcher.communicate()


def test_two_launchers_that_contradict_each_other_are_refused():
    check_processes(None, Launched(0, 2, 0, 2))
    check_processes(2, Launched(0, 2, 0, 2))
    check_processes(4, Launched())
    with pytest.raises(ConfigError, match="--num-processes 4, and a launcher has started 2"):
        check_processes(4, Launched(0, 2, 0, 2))
