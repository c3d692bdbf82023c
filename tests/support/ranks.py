"""Several processes of one run, as a launcher would start them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hf_free.training.launch import free_port


@dataclass(frozen=True)
class Ended:
    """What one of the processes left behind."""

    returncode: int
    stdout: str
    stderr: str


def environment_of(rank: int, count: int, port: int) -> dict[str, str]:
    """What torch's launchers set, on CPUs, one thread each."""
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
    numbers = {name: str(value) for name, value in names.items()}
    support = str(Path(__file__).parent)
    cpu = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "HF_HUB_OFFLINE": "1"}
    return {**os.environ, **numbers, **cpu, "PYTHONPATH": support}


def run_ranks(code: str, *words: str, count: int = 2, timeout: float = 300) -> Sequence[Ended]:
    """Run Python code in so many processes that can meet; all are gone when this returns."""
    port = free_port()
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, *words],
            env=environment_of(rank, count, port),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    try:
        found = [process.communicate(timeout=timeout) for process in started]
    finally:
        for process in started:
            process.kill()
    return [Ended(process.returncode, *texts) for process, texts in zip(started, found, strict=True)]
