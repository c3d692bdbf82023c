"""Python commands in processes of their own, without the seconds that each would import the libraries for.

`Forks.run` is `subprocess.run` of a Python command. The command runs in a fork of a process that has torch, hf_free
and the like imported (`fork_server.py`); what such a fork cannot be like a new process for is run as a new process.
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
REPOSITORY = SERVER.parents[2]
FREE = ("HF_", "HUGGING")
"""Beginnings of the names that only what a command imports itself reads."""
FIXED_NAMES = {"HF_HUB_VERBOSITY", "HF_DEBUG"}
"""Names of these that are read once for good, as the library is imported."""
FREE_NAMES = {
    *("COLUMNS", "PYTEST_CURRENT_TEST", "PYTHONPATH", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"),
    *("MASTER_ADDR", "MASTER_PORT", "CUDA_VISIBLE_DEVICES", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY"),
    *("NO_PROXY", "TORCHINDUCTOR_CACHE_DIR", "CUBLAS_WORKSPACE_CONFIG", "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK"),
    *("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "TORCH_CPP_LOG_LEVEL", "GOMP_SPINCOUNT"),
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
        self._controls: dict[bool, socket.socket] = {}

    def __enter__(self) -> Forks:
        return self

    def __exit__(self, *_: object) -> None:
        for control in self._controls.values():
            control.close()
        if self._server is not None:
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
        imports: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """What `subprocess.run` gives with these arguments, `capture_output=True` and `text=True`.

        Args:
            argv: The command line; the first word is `sys.executable` for what is to be forked.
            env: The environment; None is this process's, and one thread.
            timeout: Seconds until the command is killed.
            cwd: The folder that it runs in; None is this process's.
            check: Whether a command that fails is an error.
            draws: Whether a run in a fork draws its figures; one in a new process does.
            imports: Whether it is to import hf_free, timm and huggingface_hub itself: it looks at what is imported,
                or changes something that they read as they are imported.

        Raises:
            subprocess.TimeoutExpired: it took longer.
            subprocess.CalledProcessError: it failed, with `check`.
        """
        env = {**os.environ, "OMP_NUM_THREADS": "1"} if env is None else env
        if not self.can_fork(argv, env, cwd):
            return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=timeout, check=check, cwd=cwd)
        command = {"words": list(argv[1:]), "environment": dict(env), "folder": str(cwd or Path.cwd()), "draws": draws}
        given, mine = os.pipe()
        pipes = [os.pipe(), os.pipe()]
        line, far = socket.socketpair()
        with line, ThreadPoolExecutor(2) as pool:
            with self._lock:
                socket.send_fds(self._started(imports), [b"1"], [given, pipes[0][1], pipes[1][1], far.fileno()])
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

    def can_fork(self, argv: Sequence[str], env: Mapping[str, str], cwd: Path | None = None) -> bool:
        """Whether a fork is to this command what a new process is."""
        if not hasattr(os, "pidfd_open") or argv[0] != sys.executable or len(argv) < 2:
            return False
        if argv[1] not in ("-c", "-m") and not os.path.isabs(argv[1]):
            return False
        folders = [Path(folder) for folder in env.get("PYTHONPATH", "").split(os.pathsep) if folder]
        if any((folder / "sitecustomize.py").exists() for folder in folders):
            return False
        if any((folder / "hf_free").exists() for folder in [*folders, cwd or Path.cwd()] if folder != REPOSITORY):
            return False  # another hf_free than the one that is tested here
        return _fixed(env) == _fixed(self._environment)

    def _started(self, imports: bool) -> socket.socket:
        if not self._controls:
            pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
            numbers = [far.fileno() for _, far in pairs]
            self._server = subprocess.Popen(
                [sys.executable, str(SERVER), *map(str, numbers)],
                env=self._environment,
                pass_fds=numbers,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
            for lacks, (near, far) in zip((True, False), pairs, strict=True):
                far.close()
                if not near.recv(1):
                    self._server.kill()  # the first of the two may go on without the second
                    raise RuntimeError(f"{SERVER.name} ended before it could serve")
                self._controls[lacks] = near
        return self._controls[imports]


def run_script(forks: Forks, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program of tests/support on one thread, until it ends; it imports its neighbours, and hf_free once it has
    set the address of a Hub of its own."""
    paths = os.pathsep.join([str(SERVER.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    return forks.run(
        [sys.executable, str(SERVER.with_name(name)), *words], env=environment, timeout=None, imports=True
    )


def _fixed(environment: Mapping[str, str]) -> dict[str, str]:
    """What must be alike."""
    named = environment.items()
    return {
        name: value
        for name, value in named
        if name in FIXED_NAMES or not (name.upper().startswith(FREE) or name.upper() in FREE_NAMES)
    }


def _read(file: int) -> str:
    with open(file, encoding="utf-8") as text:
        return text.read()
