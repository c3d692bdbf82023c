"""How much memory a pool of many teachers takes: 1,000 teachers, ten times the budget, against 16 of them.

    python examples/benchmark pool
    python examples/benchmark pool --teachers 200 --width 96

Makes one small network, links its folder as often as there are teachers, and runs a pool over them in processes of
their own: every teacher is loaded and checked, then asked about pictures in a random order, four at a time as a
training step does. It prints each process's peak of resident memory, and fails if the large pool's peak lies more than
the budget and a tenth of it above that of 16 teachers: what the budget allows to be held, and 10 % for the rest.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

from benchmark.process import in_a_process

FEW = 16
TOLERANCE = 0.1
"""Share of the budget that everything but the held weights may take."""


def main() -> None:
    """Make the teachers, measure two pools, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teachers", type=int, default=1000)
    parser.add_argument("--times", type=float, default=10, help="weights of all teachers, in budgets")
    parser.add_argument("--width", type=int, default=192, help="filters of the Conv-4 teachers: 192 make 4 MB")
    parser.add_argument("--pool", help=argparse.SUPPRESS)  # the process that is measured
    options = parser.parse_args()
    if options.pool:
        print(json.dumps(measure(json.loads(options.pool))))
        return
    with tempfile.TemporaryDirectory() as folder:
        size = make_teachers(Path(folder), options.teachers, options.width)
        budget = int(options.teachers * size / options.times)
        print(f"{options.teachers} teachers of {mib(size)}: {options.times:g} times the budget of {mib(budget)}")
        peaks = {}
        for count in (FEW, options.teachers):
            found = in_a_process("benchmark.pool", "--pool", {"folder": folder, "count": count, "budget": budget})
            peaks[count] = found["peak"]
            print(f"{count:5d} teachers: peak {mib(found['peak'])}, {found['held']} held, {found['seconds']:.0f} s")
    above = peaks[options.teachers] - peaks[FEW]
    limit = (1 + TOLERANCE) * budget
    print(f"above {FEW} teachers: {mib(above)}, {above / budget:.2f} budgets; allowed {1 + TOLERANCE:g}")
    sys.exit(above > limit)


def make_teachers(folder: Path, count: int, width: int) -> int:
    """Write one teacher and link it `count` times; the bytes of its weights in memory."""
    import timm
    import torch

    import hf_free.backbones.register  # noqa: F401  (registers conv4_32)
    from hf_free.teachers.saving import save_teacher
    from hf_free.teachers.teacher import weight_bytes

    torch.manual_seed(0)
    network = timm.create_model("conv4_32", width=width, num_classes=5)
    save_teacher(network, folder / "0000", model_args={"width": width})
    for index in range(1, count):
        (folder / f"{index:04d}").mkdir()
        for name in ("config.json", "model.safetensors"):
            os.link(folder / "0000" / name, folder / f"{index:04d}" / name)
    return weight_bytes(network)


def measure(job: dict) -> dict:
    """Run a pool over the first teachers; this process's peak of resident memory in bytes, and how long it took."""
    import torch

    from hf_free.teachers.pool import TeacherPool

    start = time.monotonic()
    sources = [str(Path(job["folder"]) / f"{index:04d}") for index in range(job["count"])]
    pool = TeacherPool(sources, budget=job["budget"], strict=True)
    images = torch.rand(16, 3, 32, 32)
    with torch.no_grad():
        for step in torch.randperm(len(pool), generator=torch.Generator().manual_seed(0)).split(4):
            for teacher in [pool[index] for index in step.tolist()]:
                teacher.logits(images)
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, see getrusage(2)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    held = round(pool.loaded_bytes / pool.records[0].weight_bytes)
    return {"peak": peak, "held": held, "seconds": time.monotonic() - start}


def mib(size: float) -> str:
    """Bytes as MiB."""
    return f"{size / 2**20:.1f} MiB"


if __name__ == "__main__":
    main()
