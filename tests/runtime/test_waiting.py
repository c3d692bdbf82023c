"""Threads wait awake for a moment only, unless the user chose otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hf_free.runtime.waiting import TURNS, wait_briefly

VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


@pytest.fixture(autouse=True)
def without_a_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that it is put back, also where it was not set
        monkeypatch.delenv(name)


def test_threads_wait_awake_for_a_moment_only() -> None:
    wait_briefly()
    assert os.environ["GOMP_SPINCOUNT"] == str(TURNS)


@pytest.mark.parametrize(("name", "value"), [("GOMP_SPINCOUNT", "7"), ("OMP_WAIT_POLICY", "ACTIVE")])
def test_a_choice_of_the_user_stays(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    wait_briefly()
    assert {key: os.environ[key] for key in VARIABLES if key in os.environ} == {name: value}


def test_the_command_decides_before_torch_is_imported() -> None:
    code = (
        "import os, sys\nfrom hf_free.cli.main import main\nassert 'torch' not in sys.modules\n"
        "main(['--version'])\nprint(os.environ['GOMP_SPINCOUNT'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == str(TURNS)
