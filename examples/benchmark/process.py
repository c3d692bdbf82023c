"""A measurement in a process of its own, so that its time and its peak of memory are its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1]


def in_a_process(module: str, flag: str, job: dict) -> dict:
    """What `python -m module flag JOB` prints in its last line, as JSON; it computes on one thread.

    Args:
        module: One of `benchmark`.
        flag: Its flag that takes a job.
        job: Given to it as JSON.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, flag, json.dumps(job)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(EXAMPLES)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.strip().splitlines()[-1])
