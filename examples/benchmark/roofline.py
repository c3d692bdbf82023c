"""What limits FIVE's inner step: the share of the machine's matrix product it reaches, and the share it could reach.

    python examples/benchmark roofline --zoo ZOO --threads 1

ZOO is a folder of teachers; FIVE adapts to the first with the default settings. Every operation of the inner steps is
timed by itself, on a CPU, in bf16 where the machine computes it natively. An operation cannot take less than its
multiplications and additions at the speed of the machine's matrix product, nor less than its tensors take to be read
and written once at the speed of copying; both are measured in this run, and the later of the two is its limit (the
roofline, Williams et al. 2009). If each took no more than that, the step would reach the share that is printed last.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from benchmark import measuring
from benchmark.store import made_with, teacher_folders
from hf_free.config.sections import FiveConfig
from hf_free.inversion.five import Five
from hf_free.runtime.device import Precision
from hf_free.runtime.measuring import seconds_of
from hf_free.runtime.random_streams import RandomStreams
from hf_free.teachers.loader import load_teacher

COPIED_BYTES = (2**22, 2**24, 2**26)
"""Sizes of the tensors that are copied to measure the memory's speed; the fastest counts."""

ROWS = 12
"""Kinds of operations that have a row of their own."""


@dataclass
class Kind:
    """Operations of one name."""

    calls: int = 0
    seconds: float = 0.0
    flops: float = 0.0
    bytes: float = 0.0
    limit: float = 0.0
    """Seconds that they take at least."""


class Timing(TorchDispatchMode):
    """Times every operation of PyTorch inside the block, and counts what it computes and moves.

    Args:
        flops_per_second: Of the machine's matrix product.
        bytes_per_second: Of its memory.
    """

    def __init__(self, flops_per_second: float, bytes_per_second: float) -> None:
        super().__init__()
        self.kinds: dict[str, Kind] = defaultdict(Kind)
        self._peaks = flops_per_second, bytes_per_second

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Do an operation and note it; one that only looks at a tensor in another way moves nothing."""
        kwargs = kwargs or {}
        start = time.perf_counter()
        out = func(*args, **kwargs)
        took = time.perf_counter() - start
        kind = self.kinds[str(func.overloadpacket).removeprefix("aten.")]
        kind.calls, kind.seconds = kind.calls + 1, kind.seconds + took
        if not func.is_view:
            counted = flop_registry.get(func.overloadpacket)
            flops = 0.0 if counted is None else float(counted(*args, **kwargs, out_val=out))
            moved = float(sum(_bytes_of((args, kwargs, out))))
            kind.flops, kind.bytes = kind.flops + flops, kind.bytes + moved
            kind.limit += max(flops / self._peaks[0], moved / self._peaks[1])
        return out


def _bytes_of(values: object) -> Iterator[int]:
    """Sizes of all tensors in some values, each memory once."""
    seen = set()
    for leaf in tree_leaves(values):
        if isinstance(leaf, Tensor) and leaf.data_ptr() not in seen:
            seen.add(leaf.data_ptr())
            yield leaf.numel() * leaf.element_size()


def copying_speed(seconds: float) -> float:
    """Bytes per second that are read and written while tensors are copied, at best.

    Args:
        seconds: Time spent on each size.
    """
    best = 0.0
    for size in COPIED_BYTES:
        source = torch.ones(size // 4)
        target, end = torch.empty_like(source), time.perf_counter() + seconds
        while time.perf_counter() < end:
            best = max(best, 2 * size / seconds_of(lambda: target.copy_(source), torch.device("cpu")))  # noqa: B023  called at once
    return best


def measured(folder: str, *, rounds: int, seconds: float) -> dict[str, object]:
    """Time FIVE's inner steps for a teacher, whole and operation by operation.

    Args:
        folder: The teacher.
        rounds: How often; the fastest whole adaptation counts, and the mean of the operations.
        seconds: Time spent on each measurement of the machine's speed.
    """
    cpu = torch.device("cpu")
    precision, teacher = Precision.choose("auto", cpu), load_teacher(folder)
    peak = measuring.matmul_peak(cpu, precision.dtype or torch.float32, seconds=seconds)
    copied = copying_speed(seconds)
    size = max(teacher.record.input_size[1:])
    five = Five(FiveConfig(), image_size=size, precision=precision, streams=RandomStreams(0))
    five.adapt(teacher)
    whole = min(seconds_of(lambda: five.adapt(teacher), cpu) for _ in range(rounds))
    timing = Timing(peak, copied)
    with timing:
        for _ in range(rounds):
            five.adapt(teacher)
    kinds = {
        name: Kind(*(value / rounds for value in asdict(kind).values()))  # type: ignore[arg-type]
        for name, kind in timing.kinds.items()
    }
    flops, limit = (sum(getattr(kind, name) for kind in kinds.values()) for name in ("flops", "limit"))
    return {
        "precision": precision.name,
        "flops_per_second": peak,
        "bytes_per_second": copied,
        "seconds": whole,
        "flops": flops,
        "limit": limit,
        "share": flops / peak / whole,
        "possible": flops / peak / limit,
        "operations": {name: asdict(kind) for name, kind in kinds.items()},
    }


def table(found: dict[str, object]) -> list[str]:
    """What was measured, as Markdown."""
    operations: dict[str, dict[str, float]] = found["operations"]  # type: ignore[assignment]
    slowest = sorted(operations, key=lambda name: -operations[name]["seconds"])
    total = sum(one["seconds"] for one in operations.values())
    rows = {name: operations[name] for name in slowest[:ROWS]}
    rest = [operations[name] for name in slowest[ROWS:]]
    if rest:
        rows[f"{len(rest)} others"] = {key: sum(one[key] for one in rest) for key in rest[0]}
    lines = [
        f"| operation, {found['precision']} | calls | ms | share of time | GFLOP/s | GB/s | its limit, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in rows.items():
        took = max(one["seconds"], 1e-12)
        speeds = f"{one['flops'] / took / 1e9:,.0f} | {one['bytes'] / took / 1e9:,.1f}"
        of_time = f"{one['calls']:.0f} | {1e3 * took:.1f} | {took / total:.0%}"
        lines.append(f"| {name} | {of_time} | {speeds} | {1e3 * one['limit']:.1f} |")
    peak, copied, seconds, limit, share, possible = (
        float(found[key])  # type: ignore[arg-type]
        for key in ("flops_per_second", "bytes_per_second", "seconds", "limit", "share", "possible")
    )
    return [
        *lines,
        "",
        f"An adaptation takes {1e3 * seconds:.0f} ms, {1e3 * total:.0f} ms in these operations when each is timed; "
        f"with every operation at its limit it would take {1e3 * limit:.0f} ms.",
        f"Matrix product {peak / 1e9:,.0f} GFLOP/s, copying {copied / 1e9:,.1f} GB/s: the step reaches {share:.0%} of "
        f"the matrix product, and could reach {possible:.0%}.",
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, default=Path("../shared/zoo/cifar_fs_conv4"), help="folder of teachers")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=1.0, help="spent on each measurement of the machine's speed")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = measured(teacher_folders(options.zoo, 1)[0], rounds=options.rounds, seconds=options.seconds)
    print(*table(found), sep="\n")
    print(f"{options.threads} thread(s), load of the machine {os.getloadavg()[0]:.1f}")
    if options.json:
        options.json.write_text(json.dumps({**made_with(), **found}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
