"""What a training step, the memory and the asking of teachers cost, as ratios of one run on this machine.

    python examples/benchmark many-teachers ZOO
    python examples/benchmark many-teachers ZOO --quick --json figures.json

ZOO is a folder of teachers, of which links are made to have a thousand. In processes of their own, with the default
configuration, a run of few steps is made with 100 and with 1,000 teachers: the time of a step, and the memory beyond
weights (its peak, with the memory of pictures counted as full). Then one Conv-4 is asked about 512 pictures by its own
network and by its folded copy, in turn. Times are those that the process computes, so that other load hardly matters.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from benchmark.process import in_a_process

FEW, MANY = 100, 1000


def main() -> None:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoo", type=Path, nargs="?")
    parser.add_argument("--quick", action="store_true", help="fewer steps and rounds, 20 and 200 teachers")
    parser.add_argument("--asked", type=int, help="teachers per image; the configuration's default if left out")
    parser.add_argument("--asking-only", action="store_true", help="only the folded copy against the network")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--job", help=argparse.SUPPRESS)  # the process that is measured
    options = parser.parse_args()
    if options.job:
        print(json.dumps(measure(json.loads(options.job))))
        return
    zoo = sorted(str(path.parent) for path in options.zoo.glob("*/config.json"))
    asking = in_a_process("benchmark.many_teachers", "--job", {"asked": zoo[0], "quick": options.quick})
    found: dict[str, float] = {"asking, folded over not": asking["ratio"]}
    if not options.asking_only:
        counts = (FEW // 5, MANY // 5) if options.quick else (FEW, MANY)
        job = {"zoo": zoo, "quick": options.quick, "asked_per_image": options.asked}
        few, many = (in_a_process("benchmark.many_teachers", "--job", {**job, "count": count}) for count in counts)
        for name in few:
            print(f"{name}: {few[name]:.4g} with {counts[0]} teachers, {many[name]:.4g} with {counts[1]}")
            found[f"{name}, {counts[1]} teachers over {counts[0]}"] = many[name] / few[name]
    for name, value in found.items():
        print(f"{name}: {value:.2f}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def measure(job: dict) -> dict:
    """One of the two measurements."""
    return measure_asking(job["asked"], 5 if job["quick"] else 20) if "asked" in job else measure_run(job)


def measure_asking(folder: str, rounds: int) -> dict:
    """Time of 512 pictures by the folded copy over that by the network."""
    import torch

    from hf_free.runtime.device import Precision
    from hf_free.teachers.loader import load_teacher

    device = torch.device("cpu")
    precision = Precision.choose("auto", device)
    teacher, images = load_teacher(folder), precision.layout(torch.rand(512, 3, 32, 32))
    teacher.fold(precision)
    assert teacher.folded_bytes

    def seconds(ask: Callable[[torch.Tensor], torch.Tensor]) -> float:
        start = time.process_time()
        with torch.no_grad(), precision.autocast(device):
            ask(images)
        return time.process_time() - start

    ways = (teacher.labels, teacher.logits)
    taken = [[seconds(ask) for ask in ways] for _ in range(rounds + 2)][2:]
    folded, own = (statistics.median(column) for column in zip(*taken, strict=True))
    return {"ratio": folded / own}


def measure_run(job: dict) -> dict:
    """Seconds of a step that recovers and learns, and memory beyond weights, of a run with so many teachers."""
    from hf_free.config.tree import FreeConfig
    from hf_free.teachers.pool import TeacherPool
    from hf_free.training.trainer import train

    steps = 3 if job["quick"] else 5
    with tempfile.TemporaryDirectory() as root:
        models = []
        for index in range(job["count"]):
            link = Path(root) / f"{index:04d}"
            link.symlink_to(job["zoo"][index % len(job["zoo"])], target_is_directory=True)
            models.append(str(link))
        values = {
            "models": models,
            "trainer": {"steps": steps, "warmup_steps": 0, "checkpoint_every": 1000, "log_every": 1000},
            "five": {"recover_share": 1.0, "min_teacher_accuracy": 0.0, "min_diversity": 0.0},
            "hub": {"teacher_memory": "8GiB"},
        }
        if job["asked_per_image"]:
            values["memory"] = {"teachers_per_image": job["asked_per_image"]}
        config = FreeConfig.from_dict(values)
        start = time.process_time()
        pool = TeacherPool(models, budget="8GiB")
        loading = time.process_time() - start
        moments: list[float] = []
        train(
            config,
            output=Path(root) / "run",
            pool=pool,
            watch=lambda learner, minutes: moments.append(time.process_time()),
        )
        memory = max(Path(root).glob("run/checkpoints/*/memory.safetensors"))
        held = memory.stat().st_size / (steps * 912)  # bytes of a picture with its answers
        weights = pool.loaded_bytes
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, see getrusage(2)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    seconds = [later - earlier for earlier, later in pairwise(moments[1:])]  # first ones fold
    return {
        "seconds of a step": statistics.median(seconds),
        "MiB beyond weights": (peak - weights + held * config.memory.max_images) / 2**20,
        "bytes of a picture with its answers": held,
        "seconds of loading": loading,
    }


if __name__ == "__main__":
    main()
