"""Images recovered and answered per second in one process and in several, of one thread each, and in one process of
several threads; efficiency.

About four minutes on idle cores with the default settings, whose step is that of `hf-free train`.

Every run is the same work: the same teachers, steps, batches. Each number of processes is tried `--repeats` times,
in turn, so that a machine that others use too is as crowded for one as for the other; the best of each counts. On a
crowded machine wall-clock time says little: the second figure is by the time that the busiest process computed.

python examples/benchmark processes
python examples/benchmark processes --processes 1 2 --threads 2
python examples/benchmark processes --models zoo/a zoo/b zoo/c zoo/d --processes 1 2 4
python examples/benchmark processes --steps 12 --repeats 3 --output ranks.json
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from hf_free import FreeConfig, train
from hf_free.config.reading import merge
from hf_free.config.tree import parse_assignments
from hf_free.runtime.interrupts import Stopped
from hf_free.runtime.launched import Launched
from hf_free.runtime.processes import available_cores
from hf_free.training.folder import RunFolder
from hf_free.training.launch import free_port

TEACHERS = 8
"""Conv-4 networks of random weights and five classes that are made where no teachers are given: how good teachers are
makes no difference to the time here, since no task is left out."""

FIRST_STEPS = 2
"""Steps that are not timed: they make what the others find made."""


def main() -> None:
    """Measure every number of processes and print a table."""
    options = _options()
    if options.part:
        print(json.dumps(_run(options)))
        return
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as made:
        options.models = options.models or _teachers(Path(made))
        ways = [(count, 1) for count in options.processes] + [(1, count) for count in options.threads]
        for repeat in range(options.repeats):
            for count, threads in ways:
                found = _measured(count, threads, options)
                how = {"processes": count, "threads": threads, "repeat": repeat, "load": os.getloadavg()[0]}
                rows.append(how | found)
                print(_line(rows[-1]), flush=True)
                if options.output is not None:
                    options.output.write_text(json.dumps(rows, indent=2), encoding="utf-8")
    for key, what in (("per_second", "wall clock"), ("per_busy_second", "busiest process")):
        best = {
            way: max(row[key] for row in rows if (row["processes"], row["threads"]) == way)
            for way in ways
            if key == "per_second" or way[1] == 1  # a process computes in all of its threads
        }
        least = min(best)
        one = best[least] / (least[0] * least[1])
        for (count, threads), rate in best.items():
            share = f"{rate / one:.2f} times one, efficiency {rate / one / count / threads:.0%}"
            print(f"{what}: {_words(count, threads)} {rate:.1f} images/s, {share}")


def _teachers(folder: Path) -> list[str]:
    import timm
    import torch

    import hf_free.backbones.register  # noqa: F401  (our networks' names)
    from hf_free.teachers.saving import save_teacher

    for number in range(TEACHERS):
        torch.manual_seed(number)
        save_teacher(timm.create_model("conv4_32", num_classes=5), folder / str(number))
    return [str(folder / str(number)) for number in range(TEACHERS)]


def _measured(count: int, threads: int, options: argparse.Namespace) -> dict[str, Any]:
    """One run in so many processes of so many threads each: rates over its timed steps."""
    with tempfile.TemporaryDirectory() as folder:
        port, started = free_port(), []
        for rank in range(count):
            names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
            own = {**{name: str(number) for name, number in names.items()}, "OMP_NUM_THREADS": str(threads)}
            environment = {**os.environ, **own, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            command = [sys.executable, __file__, *sys.argv[1:], "--models", *options.models, "--part", folder]
            started.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
        found = [json.loads(process.communicate()[0].splitlines()[-1]) for process in started]
    images, seconds = found[0]["images"], found[0]["seconds"]
    return {
        "images": images,
        "seconds": seconds,
        "busy_seconds": [one["busy_seconds"] for one in found],
        "communication": found[0]["communication"],
        "per_second": images / seconds,
        "per_busy_second": images / max(one["busy_seconds"] for one in found),
    }


def _run(options: argparse.Namespace) -> dict[str, float]:
    """This process's part of a run."""
    logging.getLogger("hf_free").setLevel(logging.ERROR)  # what there is to know of the teachers
    values = {"models": options.models, "seed": options.seed}
    length = {"steps": options.steps + 2, "max_minutes": None, "warmup_steps": 0, "log_every": 1}
    fixed = {"trainer": {**length, "threads": int(os.environ["OMP_NUM_THREADS"])}}
    alike = {"trainer": {"device": "cpu", "checkpoint_every": 10_000, "picture_every": 10_000}}
    quality = {"five": {"min_teacher_accuracy": 0.0, "min_diversity": 0.0, "recover_share": 1.0}}
    given = parse_assignments(options.set)
    config = FreeConfig.from_dict(merge(merge(merge(merge(values, fixed), alike), quality), given))
    times: list[tuple[float, float]] = []
    output = Path(options.part) / "run"

    def watch(*_: object) -> None:
        times.append((time.perf_counter(), time.process_time()))
        if len(times) > options.steps:  # the last timed step has its line in the log by now
            raise Stopped

    with suppress(Stopped):
        train(config, output=output, watch=watch, progress=False)
    (begun, busy), (ended, busy_then) = times[FIRST_STEPS - 1], times[options.steps - 1]
    if not Launched.here().is_first:
        return {"busy_seconds": busy_then - busy}
    spent = [row.get("communication", 0.0) for row in RunFolder(output).read_log()]
    state = RunFolder(output).checkpoint_state() or {}
    per_step = int(str(state["pictures"])) / len(times) + config.memory.drawn_per_step
    return {
        "images": per_step * (options.steps - FIRST_STEPS),
        "seconds": ended - begun,
        "busy_seconds": busy_then - busy,
        "communication": spent[-1] - spent[FIRST_STEPS - 1],
    }


def _words(count: int, threads: int) -> str:
    return f"{count} process(es)" if threads == 1 else f"{count} process of {threads} threads"


def _line(row: dict[str, Any]) -> str:
    busy = ", ".join(f"{seconds:.1f}" for seconds in row["busy_seconds"])
    return (
        f"{_words(row['processes'], row['threads'])}: {row['per_second']:6.1f} images/s by the wall clock, "
        f"{row['per_busy_second']:6.1f} by the busiest process; {row['seconds']:.1f} s, computing {busy} s, "
        f"communication and waiting {row['communication']:.1f} s; load {row['load']:.1f}"
    )


def _as_cores_allow() -> list[int]:
    return [count for count in (1, 2, 4, 8) if count <= max(2, available_cores())]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--models", nargs="+", help=f"teachers, as hf-free train takes them; {TEACHERS} Conv-4 if none"
    )
    parser.add_argument(
        "--processes", nargs="+", type=int, default=_as_cores_allow(), help="1 2, and 4 8 where cores are"
    )
    parser.add_argument("--threads", nargs="*", type=int, default=[2], help="of one process, each tried beside")
    parser.add_argument("--steps", type=int, default=6, help=f"of which {FIRST_STEPS} are not timed")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
