"""Fixtures that many tests share: a loopback Hub, and real clients in processes of their own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from forked import Forks

from hf_free.hub.loopback.hub import LoopbackHub


@dataclass(frozen=True)
class ClientResult:
    """What a client's process left behind."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The last line of the output, read as JSON."""
        return json.loads(self.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="session")
def hub() -> Iterator[LoopbackHub]:
    """A loopback Hub for the whole session; tests use repository names of their own."""
    with LoopbackHub() as server:
        yield server


@pytest.fixture(scope="session")
def tokens(hub: LoopbackHub) -> dict[str, str]:
    """Tokens of users: alice (also of the organization `lab`) and bob may write, reader's token may only read."""
    return {
        "alice": hub.add_user("alice", "hf_alice_secret", organizations=("lab",)),
        "bob": hub.add_user("bob", "hf_bob_secret"),
        "reader": hub.add_user("reader", "hf_reader_secret", role="read"),
    }


@pytest.fixture(scope="session")
def forks(hub: LoopbackHub) -> Iterator[Forks]:
    """Python commands in forks of one process, with the environment of the loopback Hub's clients."""
    with Forks(hub.environment()) as server:
        yield server


@pytest.fixture
def run_client(hub: LoopbackHub, forks: Forks, tmp_path: Path) -> Callable[..., ClientResult]:
    """Run Python code (a text) or a command (a list) as a client of the loopback Hub, in a process of its own.

    The environment is `LoopbackHub.environment`: no proxies, no inherited HF_* settings, a cache that only this test
    uses. With `check` (the default) a failure of the client fails the test and shows what it wrote.
    """

    def run(
        code_or_argv: str | Sequence[str],
        *,
        token: str | None = None,
        home: Path | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float = 120,
        cwd: Path | None = None,
    ) -> ClientResult:
        python = isinstance(code_or_argv, str)
        argv = [sys.executable, "-c", code_or_argv] if python else list(code_or_argv)
        environment = {**hub.environment(token, home or tmp_path / "home"), "OMP_NUM_THREADS": "1", **(env or {})}
        done = forks.run(argv, env=environment, timeout=timeout, cwd=cwd)
        if check and done.returncode != 0:
            pytest.fail(f"the client ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return ClientResult(done.returncode, done.stdout, done.stderr)

    return run
