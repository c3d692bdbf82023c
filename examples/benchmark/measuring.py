"""Figures of a benchmark: seconds, operations per second, memory, the machine, and what meta-training costs per
task."""

from __future__ import annotations

import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import psutil
import torch

from hf_free.runtime.measuring import seconds_of

MATMUL_SIZES = {"cpu": (512, 1024, 2048), "cuda": (4096, 8192), "mps": (1024, 2048)}
"""Square matrices that are tried for the peak: large enough to reach it, small enough for a moment."""


def alternating_seconds(works: Sequence[Callable[[], object]], device: torch.device, *, rounds: int) -> list[float]:
    """Median time of each piece of work; they take turns, so that other load on the machine meets all alike.

    One round before the first is not counted.
    """
    taken = [[seconds_of(work, device) for work in works] for _ in range(rounds + 1)][1:]
    return [statistics.median(column) for column in zip(*taken, strict=True)]


def matmul_peak(device: torch.device, dtype: torch.dtype, *, seconds: float = 1.0) -> float:
    """Most operations per second that a product of two square matrices reaches, two per multiply-add.

    Args:
        device: Where to compute.
        dtype: Type of both matrices.
        seconds: Time spent on each size.
    """
    best = 0.0
    for size in MATMUL_SIZES[device.type]:
        left, right = torch.randn(2, size, size, device=device).to(dtype).unbind()
        out = torch.empty_like(left)
        torch.mm(left, right, out=out)
        end = time.perf_counter() + seconds
        while True:
            taken = seconds_of(lambda: torch.mm(left, right, out=out), device)  # noqa: B023  called at once
            best = max(best, 2 * size**3 / taken)
            if time.perf_counter() >= end:
                break
    return best


def peak_memory(device: torch.device) -> dict[str, int]:
    """Bytes: `process`, the most this process ever had in main memory; on CUDA `device`, the most its tensors took."""
    peak = {"process": _peak_of_process()}
    if device.type == "cuda":
        peak["device"] = torch.cuda.max_memory_allocated(device)
    return peak


def _peak_of_process() -> int:
    try:
        import resource
    except ImportError:  # Windows
        memory = psutil.Process().memory_info()
        return int(getattr(memory, "peak_wset", memory.rss))
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): KiB, on macOS bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit  # type: ignore[attr-defined]  # on Windows


def amortized(meta_seconds: float, task_seconds: float, tasks: float) -> float:
    """Seconds per task where `tasks` tasks share the cost of one meta-training."""
    return meta_seconds / tasks + task_seconds


def break_even(meta_seconds: float, task_seconds: float, rival_seconds: float) -> int | None:
    """Least number of tasks from which on meta-training has paid off; None if it never does."""
    saved = rival_seconds - task_seconds
    return None if saved <= 0 else max(1, math.ceil(meta_seconds / saved))


def machine(device: torch.device) -> dict[str, object]:
    """What figures depend on besides the code: processor, threads, versions, load."""
    import timm

    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "timm": timm.__version__},
    }


def load_average() -> float | None:
    """Processes that wanted a core, on average over the last minute; None where the system does not say."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _processor() -> str:
    """The processor's name as Linux gives it, else what Python knows."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="ignore") as file:
            lines = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        lines = []
    return lines[0] if lines else platform.processor() or "unknown"
