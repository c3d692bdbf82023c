"""Processes of one attempt meet by themselves in a store that has seen earlier attempts.

torchrun keeps one store for all attempts of a run: with `--master-port` always, with `--standalone` unless
`TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1`. A process that it starts again would find the addresses that the dead ones left
there, and wait for them. The number of the attempt does not tell attempts apart: each launcher counts its own. So the
first process draws a name, and all others answer to it; only those that are alive are in.
"""

from __future__ import annotations

import time
import uuid
from datetime import timedelta

import torch.distributed as dist

from hf_free.runtime.text import listed

_CALL = "hf_free/meeting"
"""Key of the name that the first process of the newest attempt has drawn."""

_PAUSE = 0.05
"""Seconds between two looks at the store."""


def meet(store: dist.Store, rank: int, count: int, timeout: timedelta) -> dist.Store:
    """Wait until all processes of this attempt are there; they alone use the part of the store that comes back.

    Args:
        store: That of the launcher.
        rank: This process's, from 0.
        count: All processes.
        timeout: How long they are waited for.

    Raises:
        RuntimeError: some do not come in time; the first process names them.
    """
    deadline = time.monotonic() + timeout.total_seconds()
    name = _call(store, count, deadline) if rank == 0 else _answer(store, rank, deadline)
    return dist.PrefixStore(f"hf_free/{name}", store)


def _call(store: dist.Store, count: int, deadline: float) -> str:
    """Draw a name, and say who has answered to it."""
    name = uuid.uuid4().hex
    store.set(_CALL, name)
    missing = set(range(1, count))
    while missing:
        missing = {rank for rank in missing if not store.check([_place(name, rank)])}
        if missing and time.monotonic() > deadline:
            raise RuntimeError(f"{listed([f'rank {rank}' for rank in sorted(missing)])} did not come in time")
        time.sleep(_PAUSE if missing else 0)
    store.set(f"{name}/all", " ".join(store.get(_place(name, rank)).decode() for rank in range(1, count)))
    return name


def _answer(store: dist.Store, rank: int, deadline: float) -> str:
    """Answer to the newest name until the first process has heard it: a dead one does not."""
    own, name = uuid.uuid4().hex, ""
    while time.monotonic() <= deadline:
        called = store.get(_CALL).decode() if store.check([_CALL]) else ""
        if called != name:
            name = called
            store.set(_place(name, rank), own)
        if name and store.check([f"{name}/all"]) and own in store.get(f"{name}/all").decode().split():
            return name
        time.sleep(_PAUSE)
    raise RuntimeError("rank 0 did not come in time")


def _place(name: str, rank: int) -> str:
    return f"{name}/{rank}"
