"""Several processes of one run, as a launcher would start them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

from forked import Forks

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


def run_ranks(forks: Forks, code: str, *words: str, count: int = 2, timeout: float = 300) -> Sequence[Ended]:
    """Run Python code in so many processes that can meet; all are gone when this returns."""
    port = free_port()
    argv = [sys.executable, "-c", code, *words]

    def run(rank: int) -> Ended:
        return forks.run(argv, env=environment_of(rank, count, port), timeout=timeout)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))
