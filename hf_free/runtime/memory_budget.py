"""How much memory a run may take, how much is free, and how much a piece of work took at its peak.

A container's limit lies in its control group (cgroup), version 1 or 2, and in those above it; the machine's own free
memory says nothing of it, and a process that passes it is killed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import torch

from hf_free.runtime.allocator import give_back_memory

SHARE_OF_FREE = 0.5
"""Share of the free memory that a run takes by default; the rest is for everything else."""

PIXELS_AT_ONCE = 2**21
"""Pixels of the pictures that one pass draws or embeds, where nothing was measured: 2,048 pictures of 32 pixels, 297
of 84, 41 of 224. A drawn pixel takes about 300 bytes on the way."""

SAMPLE_SECONDS = 0.002
"""Between two looks at the memory, where the system does not keep its peak."""

_CGROUPS, _SELF_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def pictures_in_cache(size: int) -> int:
    """Pictures that a CPU embeds at once, so that what one layer gives is still in its cache for the next.

    512 of 32 pixels, one thread of an AMD EPYC, in parts of 256 / 64 / 32 / 16: Conv-4 (64) 0.36 / 0.30 / 0.18 /
    0.19 s, ResNet-12 6.4 / 5.3 / 5.1 / 5.1 s, with the same numbers to the last bit (docs/experiments/speed.md).

    Args:
        size: Height and width of the pictures.
    """
    return max(8, 32 * 32 * 32 // max(1, size * size))


def pictures_at_once(size: int) -> int:
    """Pictures of a height and width that one pass takes at most, where nothing was measured; at least 2."""
    return max(2, PIXELS_AT_ONCE // size**2)


def free_memory(device: torch.device) -> int:
    """Bytes that can be taken on a device now, within the limits of this process's control groups."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    machine = psutil.virtual_memory().available
    groups = cgroup_headroom()
    return machine if groups is None else min(machine, groups)


def cgroup_headroom(own: Path = _SELF_CGROUP, root: Path = _CGROUPS) -> int | None:
    """Bytes left below the tightest memory limit of this process's control groups.

    Cached file pages (`inactive_file`) do not count as taken: the kernel drops them before it kills.

    Args:
        own: Which groups a process is in, as `/proc/self/cgroup` says.
        root: Where their file systems are mounted.

    Returns:
        None where no group has a limit, as outside Linux.
    """
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    left = []
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            mount, names = root, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            mount, names = root / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # Inside a container the path is often the host's and not mounted: the root then is the container's own group.
        parts = [part for part in path.split("/") if part and part != ".."]
        groups = [mount.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]
        left += [room for room in (_room_of(group, *names) for group in groups) if room is not None]
    return min(left, default=None)


def _room_of(group: Path, limit: str, usage: str, cached: str) -> int | None:
    """Bytes left in one group; None without a limit."""
    try:
        allowed = int((group / limit).read_text(encoding="ascii"))  # version 2 writes "max" where there is none
        taken = int((group / usage).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    try:
        entries = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
        taken -= int(entries.get(cached, 0))
    except (OSError, ValueError):
        pass
    return max(0, allowed - taken)


def resident_memory() -> int:
    """Bytes of memory that this process holds now."""
    return psutil.Process().memory_info().rss


def give_back_beyond(most: int) -> None:
    """Hand freed memory to the system where this process holds more than so many bytes."""
    if resident_memory() > most:
        give_back_memory()


def peak_memory(work: Callable[[], object], device: torch.device) -> int:
    """Bytes that a piece of work takes at its peak, beyond what is held before it.

    On a GPU torch's allocator counts. On Linux the kernel keeps the peak of a process; elsewhere the memory is looked
    at every few milliseconds, so that short peaks are missed.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    give_back_memory()  # else the work is done in memory that earlier work has left
    if _forget_peak():
        before = resident_memory()
        work()
        return max(0, _kept_peak() - before)
    before = resident_memory()
    with _Watch() as watch:
        work()
    return max(0, watch.peak - before)


def _forget_peak() -> bool:
    """Start the kernel's peak anew (proc(5), clear_refs); whether it could be."""
    try:
        _CLEAR_REFS.write_text("5", encoding="ascii")
    except OSError:
        return False
    return _STATUS.is_file()


def _kept_peak() -> int:
    lines = _STATUS.read_text(encoding="ascii", errors="ignore").splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


class _Watch:
    """Looks at the memory again and again, in a thread of its own."""

    def __enter__(self) -> _Watch:
        self.peak, self._over = resident_memory(), threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
        self.peak = max(self.peak, resident_memory())

    def _look(self) -> None:
        process = psutil.Process(os.getpid())
        while not self._over.wait(SAMPLE_SECONDS):
            self.peak = max(self.peak, process.memory_info().rss)
