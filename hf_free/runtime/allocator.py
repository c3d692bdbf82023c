"""Controls what glibc does with freed memory: keep it for the next tensor, or hand it back to the system; and how
often Python looks for garbage.

Kept, because on a CPU half of a small network's training time can be page faults. glibc asks the kernel for every
large block (above 32 MiB at the latest), and gives it back when it is freed. A step of training frees and takes the
same hundreds of megabytes again and again, and the kernel clears each page anew: measured for an update of a Conv-4
(64 channels, 256 pictures, one thread, a virtual machine), 59,000 page faults and 0.115 s of 0.255 s of processor
time.
"""

from __future__ import annotations

import ctypes
import gc
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt(3), from its malloc.h."""

KEPT_BYTES = 1 << 30
"""Blocks up to this size are taken from, and stay in, the process's own heap."""


RARELY = 50_000
"""New objects after which Python looks for garbage while many networks are loaded, by default 700 or 2,000; a small
network has about 500."""


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


@contextmanager
def rare_collections() -> Iterator[None]:
    """A block in which Python looks for garbage seldom: among thousands of networks that stay there is none, and
    looking for it again and again takes a tenth of their loading. What was set before is set again."""
    young, middle, old = before = gc.get_threshold()
    if young:  # 0: somebody does without
        gc.set_threshold(max(RARELY, young), middle, 10 * old)  # the last: all there is, libraries included
    try:
        yield
    finally:
        gc.set_threshold(*before)


def import_torch() -> None:
    """Import torch for a program of its own: garbage is not looked for meanwhile, nor ever among what is imported.

    There is none in its million objects, and to look for it again and again takes a fifth of the import.
    """
    if "torch" in sys.modules:
        return
    was_looking = gc.isenabled()
    gc.disable()
    try:
        import torch  # noqa: F401

        gc.freeze()
    finally:
        if was_looking:
            gc.enable()
