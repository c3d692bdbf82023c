"""Runs that are killed with SIGKILL and resumed, compared to the bit with one that was left alone.

`python tests/support/killed_runs.py --kills 50` prints a line per kill and exits with 1 unless all are as they should
be: after any kill the newest whole checkpoint is at most `EVERY` steps back, the resumed run ends with the very
weights and losses of the undisturbed one, and nothing unfinished is left over. A process of its own, with one thread:
what it forks must not have computed with several. Pictures are not drawn, which would take most of the time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import torch
from kills import is_change, killed
from pico import pico_folder
from runs import TINY

import hf_free.training.finishing
import hf_free.training.trainer
from hf_free import FreeConfig, train
from hf_free.config.reading import merge
from hf_free.training.folder import RunFolder

EVERY, STEPS = 2, 6
"""Steps between two checkpoints, and of the run."""


def config_for(folder: Path) -> FreeConfig:
    """A run of a second over two teachers, which are made in a folder."""
    models = [str(pico_folder(folder / f"teacher{seed}", seed=seed)) for seed in range(2)]
    values = {
        "models": models,
        "five": {"inner_steps": 1, "images_per_class": 2},
        "trainer": {"steps": STEPS, "validation_episodes": 2, "checkpoint_every": EVERY, "picture_every": 4},
    }
    return FreeConfig.from_dict(merge(TINY, values))


def outcome(run: RunFolder) -> dict[str, object]:
    """Hash of the learner's weights, losses by step, and what is left unfinished."""
    weights = hashlib.sha256((run.learner / "model.safetensors").read_bytes()).hexdigest()
    rows = [{key: value for key, value in row.items() if key != "minutes"} for row in run.read_log()]
    ends = (".new", ".old")
    left = [path.name for path in run.root.rglob("*") if path.name.endswith(ends) or path.name.startswith(".saving-")]
    return {"weights": weights, "rows": rows, "left": left, "locked": (run.root / "run.lock").exists()}


def go_on(config: FreeConfig, run: RunFolder) -> None:
    """Do what a user does after a kill: resume, or start again where there is nothing to resume."""
    has_any = run.config.is_file() and run.last_step() is not None
    if not has_any and run.root.is_dir():
        shutil.rmtree(run.root)
    train(config, output=run.root, resume=has_any, progress=False)


def undisturbed(config: FreeConfig, run: RunFolder, folder: Path) -> tuple[dict[str, object], int, float]:
    """Outcome of a run that nobody kills, how many changes to the file system it makes, and its seconds."""
    counted = folder / "calls"

    def work() -> None:
        calls = [0]

        def count(event: str, arguments: tuple[object, ...]) -> None:
            calls[0] += is_change(event, arguments)

        sys.addaudithook(count)
        train(config, output=run.root, progress=False)
        counted.write_text(str(calls[0]))

    begin = time.monotonic()
    assert not killed(work)
    return outcome(run), int(counted.read_text()), time.monotonic() - begin


def main() -> int:
    """Kill as many runs as asked for; every second one at a change to the file system, the others by the clock."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for module, name in (
        (hf_free.training.trainer, "draw_pictures"),
        (hf_free.training.finishing, "draw_pictures"),
        (hf_free.training.finishing, "draw_heterogeneity"),
    ):
        setattr(module, name, lambda *_, **__: None)
    draw, bad, fired = random.Random(options.seed), 0, 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        config = config_for(folder)
        expected, calls, seconds = undisturbed(config, RunFolder(folder / "whole"), folder)
        for number in range(options.kills):
            run = RunFolder(folder / f"run{number}")
            by_clock = number % 2 == 1
            at = {"after": draw.uniform(0.1, seconds)} if by_clock else {"at_call": draw.randint(1, calls)}
            was_killed = killed(lambda run=run: go_on(config, run), **at)
            fired += was_killed
            done = max((row["step"] for row in run.read_log()), default=0)
            kept = run.last_step() or 0
            assert not killed(lambda run=run: go_on(config, run))
            found = outcome(run)
            lost = int(done) - kept
            good = was_killed and lost <= EVERY and found == expected
            bad += not good
            line = {"kill": number + 1, **at, "killed": was_killed, "steps_lost": lost, "equal": found == expected}
            sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.write(f"{options.kills - bad} of {options.kills} as they should be; {fired} were killed\n")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
