"""Python commands in processes of their own, without the seconds that each would import the big libraries for.

`Forks.run` is `subprocess.run` of a Python command. The command runs in a fork of a process that has torch and the
like imported (`fork_server.py`); what such a fork cannot be like a new process for is run as a new process.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SERVER = Path(__file__).with_name("fork_server.py")
FREE = ("HF_", "HUGGING")
"""Beginnings of the names that only what a command imports itself reads."""
FREE_NAMES = {
    *("COLUMNS", "PYTEST_CURRENT_TEST", "PYTHONPATH", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"),
    *("MASTER_ADDR", "MASTER_PORT", "CUDA_VISIBLE_DEVICES", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY"),
    *("NO_PROXY", "TORCHINDUCTOR_CACHE_DIR", "CUBLAS_WORKSPACE_CONFIG", "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK"),
    *("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "TORCH_CPP_LOG_LEVEL"),
}
"""Names that are read when they are needed, not at an import, and those that libraries set in the tests' process."""


class Forks:
    """The process that forks, begun at the first command.

    Args:
        environment: What it is begun with. A command whose environment has other values, but for the free names,
            runs as a new process: libraries read theirs as they are imported.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = {**environment, "OMP_NUM_THREADS": "1"}
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def __enter__(self) -> Forks:
        return self

    def __exit__(self, *_: object) -> None:
        if self._control is not None and self._server is not None:
            self._control.close()
            self._server.wait(30)

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        timeout: float | None = 300,
        cwd: Path | None = None,
        check: bool = False,
        draws: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """What `subprocess.run` gives with these arguments, `capture_output=True` and `text=True`.

        Args:
            argv: The command line; the first word is `sys.executable` for what is to be forked.
            env: The environment; None is this process's, and one thread.
            timeout: Seconds until the command is killed.
            cwd: The folder that it runs in; None is this process's.
            check: Whether a command that fails is an error.
            draws: Whether a run in a fork draws its figures; one in a new process does.

        Raises:
            subprocess.TimeoutExpired: it took longer.
            subprocess.CalledProcessError: it failed, with `check`.
        """
        env = {**os.environ, "OMP_NUM_THREADS": "1"} if env is None else env
        if not self.can_fork(argv, env):
            return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=timeout, check=check, cwd=cwd)
        command = {"words": list(argv[1:]), "environment": dict(env), "folder": str(cwd or Path.cwd()), "draws": draws}
        given, mine = os.pipe()
        pipes = [os.pipe(), os.pipe()]
        line, far = socket.socketpair()
        with line, ThreadPoolExecutor(2) as pool:
            with self._lock:
                socket.send_fds(self._started(), [b"1"], [given, pipes[0][1], pipes[1][1], far.fileno()])
            far.close()
            for file in (given, pipes[0][1], pipes[1][1]):
                os.close(file)
            texts = [pool.submit(_read, reading) for reading, _ in pipes]
            with open(mine, "w", encoding="utf-8") as file:
                json.dump(command, file)
            line.settimeout(timeout)
            try:
                status = line.recv(16)
            except TimeoutError:
                line.close()  # which ends the fork
                raise subprocess.TimeoutExpired(list(argv), timeout or 0) from None
            stdout, stderr = (text.result() for text in texts)
        if not status:
            raise RuntimeError("the process that forks has gone")
        done = subprocess.CompletedProcess(list(argv), int(status), stdout, stderr)
        if check:
            done.check_returncode()
        return done

    def can_fork(self, argv: Sequence[str], env: Mapping[str, str]) -> bool:
        """Whether a fork is to this command what a new process is."""
        if not hasattr(os, "pidfd_open") or argv[0] != sys.executable or len(argv) < 2:
            return False
        if argv[1] not in ("-c", "-m") and not os.path.isabs(argv[1]):
            return False
        folders = env.get("PYTHONPATH", "").split(os.pathsep)
        if any((Path(folder) / "sitecustomize.py").exists() for folder in folders if folder):
            return False
        return _fixed(env) == _fixed(self._environment)

    def _started(self) -> socket.socket:
        if self._control is None:
            self._control, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with far:
                self._server = subprocess.Popen(
                    [sys.executable, str(SERVER), str(far.fileno())],
                    env=self._environment,
                    pass_fds=[far.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                )
            if not self._control.recv(1):
                raise RuntimeError(f"{SERVER.name} ended with {self._server.wait()}")
        return self._control


def run_script(forks: Forks, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program of tests/support on one thread, until it ends; it imports its neighbours."""
    paths = os.pathsep.join([str(SERVER.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    return forks.run([sys.executable, str(SERVER.with_name(name)), *words], env=environment, timeout=None)


def _fixed(environment: Mapping[str, str]) -> dict[str, str]:
    """What must be alike."""
    named = environment.items()
    return {k: v for k, v in named if not (k.upper().startswith(FREE) or k.upper() in FREE_NAMES)}


def _read(file: int) -> str:
    with open(file, encoding="utf-8") as text:
        return text.read()
