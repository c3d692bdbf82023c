"""Controls what glibc does with freed memory: keep it for the next tensor, or hand it back to the system.

Kept, because on a CPU half of a small network's training time can be page faults. glibc asks the kernel for every
large block (above 32 MiB at the latest), and gives it back when it is freed. A step of training frees and takes the
same hundreds of megabytes again and again, and the kernel clears each page anew: measured for an update of a Conv-4
(64 channels, 256 pictures, one thread, a virtual machine), 59,000 page faults and 0.115 s of 0.255 s of processor
time.
"""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt(3), from its malloc.h."""

KEPT_BYTES = 1 << 30
"""Blocks up to this size are taken from, and stay in, the process's own heap."""


def keep_freed_memory() -> bool:
    """Let this process reuse the memory of freed tensors instead of handing it back; holds until the process ends.

    The process then stays as large as it once was. A choice made by MALLOC_MMAP_THRESHOLD_ or another allocator
    (jemalloc, tcmalloc) is overruled or not affected, respectively.

    Returns:
        Whether it took effect: glibc only (Linux); elsewhere nothing changes.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_THRESHOLD, KEPT_BYTES) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def give_back_memory() -> None:
    """Hand freed memory to the system, whatever `keep_freed_memory` said: see malloc_trim(3); glibc only."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
