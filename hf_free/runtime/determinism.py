"""One seed, one result: torch's deterministic algorithms, for the length of a block."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


@contextmanager
def deterministic_algorithms(wanted: bool) -> Iterator[None]:
    """Within the block torch uses algorithms whose result does not change from run to run; settings are restored.
    Operations without one go on with a warning from torch. With one machine and number of threads, CPUs give the same
    numbers either way; on a GPU, sums of free order, such as those of scattered gradients, do not.

    Args:
        wanted: Whether to do so; False changes nothing.
    """
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filling: Any = torch.utils.deterministic
    benchmark, filled = torch.backends.cudnn.benchmark, filling.fill_uninitialized_memory
    workspace = os.environ.get(_CUBLAS)
    os.environ.setdefault(_CUBLAS, ":4096:8")  # cuBLAS reads it when it is first used
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    filling.fill_uninitialized_memory = False  # ours is written before it is read; filling costs
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = benchmark
        filling.fill_uninitialized_memory = filled
        if workspace is None:
            os.environ.pop(_CUBLAS, None)
