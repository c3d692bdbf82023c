"""Several processes of one run, as a launcher would start them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

from forked import Forks
from torch.distributed import TCPStore

from hf_free.training.launch import free_port

Ended: TypeAlias = subprocess.CompletedProcess[str]
"""What one of the processes left behind."""


def environment_of(rank: int, count: int, port: int) -> dict[str, str]:
    """What torch's launchers set, on CPUs, one thread each."""
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
    numbers = {name: str(value) for name, value in names.items()}
    support = str(Path(__file__).parent)
    cpu = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "HF_HUB_OFFLINE": "1"}
    return {**os.environ, **numbers, **cpu, "PYTHONPATH": support}


def run_ranks(
    forks: Forks,
    code: str,
    *words: str,
    count: int = 2,
    timeout: float = 300,
    store: TCPStore | None = None,
    more: Mapping[str, str] | None = None,
) -> Sequence[Ended]:
    """Run Python code in so many processes that can meet; all are gone when this returns.

    Args:
        forks: Starts them.
        code: What each runs.
        words: Its arguments.
        count: How many there are.
        timeout: Seconds for all of them.
        store: Where they meet, as torchrun keeps one over its attempts; None leaves that to the first of them.
        more: Environment variables of all of them, such as a loopback Hub's.
    """
    port = free_port() if store is None else store.port
    argv = [sys.executable, "-c", code, *words]

    def run(rank: int) -> Ended:
        environment = {**environment_of(rank, count, port), **(more or {})}
        if store is not None:
            environment["TORCHELASTIC_USE_AGENT_STORE"] = "True"
        return forks.run(argv, env=environment, timeout=timeout)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))
