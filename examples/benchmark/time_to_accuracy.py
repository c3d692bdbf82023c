"""Minutes to an accuracy in one process and in several, of one thread each: whole runs of `hf-free train`.

    python examples/benchmark minutes                                   # 1 process 30 minutes, 2 processes 16.6
    python examples/benchmark minutes --runs 1:10 1:20 2:6 2:11 --goal 46 62
    python examples/benchmark minutes --models zoo/a zoo/b --data org/pictures --runs 1:2 2:1

How fast the learning rate falls follows from the minutes that a run is given, so a run that is stopped early says
nothing about a shorter one: each row is a run of its own. All are measured on the same episodes. The runs with as many
processes are compared by the shortest that reaches the goal. Run again, it skips what is finished.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmark.store import made_with, teacher_folders
from hf_free.training.folder import RunFolder

FASTER = 1.8
"""What two processes are to be against one: by so many times shorter are their default runs."""


@dataclass(frozen=True)
class Row:
    """A run and what came of it."""

    processes: int
    minutes: float
    """What it was given."""
    steps: int
    accuracies: dict[int, float]
    """Percent, by number of shots."""
    intervals: dict[int, float]
    """Half-widths of the 95 % intervals over episodes."""
    load: float
    """Of the machine when it began."""

    def reaches(self, goal: list[float]) -> bool:
        """Whether it has at least the goal's accuracies, in the order of the shots."""
        return all(self.accuracies[shots] >= least for shots, least in zip(sorted(self.accuracies), goal, strict=True))

    def __str__(self) -> str:
        found = ", ".join(
            f"{accuracy:.1f} ± {self.intervals[shots]:.1f} ({shots}-shot)"
            for shots, accuracy in self.accuracies.items()
        )
        given = f"{self.processes} process(es), {self.minutes:g} minutes"
        return f"{given}: {self.steps} steps, {found}; load {self.load:.1f}"


def main() -> None:
    """Train and measure every run, then say how many minutes each number of processes took."""
    options = _options()
    rows: list[Row] = []
    for processes, minutes in options.runs:
        folder = options.output / f"{processes}-processes-{minutes:g}-minutes-seed-{options.seed}"
        rows.append(_row(processes, minutes, folder, options))
        print(rows[-1], flush=True)
        content = {**made_with(), "rows": [asdict(row) for row in rows]}
        (options.output / "results.json").write_text(json.dumps(content, indent=2), encoding="utf-8")
    print(*summary(rows, options.goal), sep="\n")


def summary(rows: list[Row], goal: list[float]) -> list[str]:
    """Per number of processes the shortest run that reaches the goal, and how many times faster than one process."""
    wanted, lines = " / ".join(f"{least:g}" for least in goal), []
    shortest: dict[int, float] = {}
    for count in sorted({row.processes for row in rows}):
        reached = [row.minutes for row in rows if row.processes == count and row.reaches(goal)]
        if not reached:
            lines.append(f"{count} process(es): no run reached {wanted}")
            continue
        shortest[count] = min(reached)
        times = f", {shortest[1] / shortest[count]:.2f} times one process" if 1 in shortest and count > 1 else ""
        lines.append(f"{count} process(es): {wanted} within {shortest[count]:g} minutes{times}")
    return lines


def _row(processes: int, minutes: float, folder: Path, options: argparse.Namespace) -> Row:
    kept, load = folder / "row.json", os.getloadavg()[0]
    if not kept.is_file():
        if not (folder / "learner" / "config.json").is_file():
            words = ["train", "--models", *(options.models or teacher_folders(options.zoo, options.teachers))]
            words += ["--max-minutes", str(minutes), "--seed", str(options.seed), "--output", str(folder)]
            words += ["--num-processes", str(processes)] if processes > 1 else []
            words += ["--resume"] if RunFolder(folder).last_step() is not None else []
            _command([*words, "--set", "trainer.threads=1", "trainer.device=cpu", *options.set], show=True)
        words = ["evaluate", str(folder / "learner"), "--dataset", str(options.data), "--split", options.split]
        words += ["--episodes", str(options.episodes), "--baselines", "none", "--device", "cpu", "--json"]
        measured = json.loads(_command(words, show=False))["rows"]
        record = json.loads((folder / "learner" / "config.json").read_text(encoding="utf-8"))
        row = Row(
            processes,
            minutes,
            record["hf_free"]["training"]["steps"],
            {one["k_shot"]: one["accuracy"] for one in measured},
            {one["k_shot"]: one["interval"] for one in measured},
            load,
        )
        kept.write_text(json.dumps(asdict(row)), encoding="utf-8")
    values = json.loads(kept.read_text(encoding="utf-8"))
    for name in ("accuracies", "intervals"):
        values[name] = {int(shots): value for shots, value in values[name].items()}
    return Row(**values)


def _command(words: list[str], *, show: bool) -> str:
    """What an hf-free command prints; its notes and progress are shown or dropped."""
    command = [sys.executable, "-m", "hf_free.cli.main", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"} if words[0] == "train" else None
    shown = None if show else subprocess.DEVNULL
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=shown, text=True)
    if done.returncode:
        sys.exit(f"hf-free {words[0]} ended with {done.returncode}; run it again to go on")
    return done.stdout


def _run(text: str) -> tuple[int, float]:
    processes, _, minutes = text.partition(":")
    return int(processes), float(minutes)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, default=Path("../shared/zoo/cifar_fs_conv4"), help="folder of teachers")
    parser.add_argument("--teachers", type=int, help="take only the first N teachers")
    parser.add_argument("--models", nargs="+", help="teachers as hf-free train takes them, instead of --zoo")
    parser.add_argument("--data", default="../shared/data/cifar_fs", help="data set")
    parser.add_argument("--split", default="validation", help="classes to measure on")
    parser.add_argument("--episodes", type=int, default=600)
    default = [(1, 30.0), (2, int(10 * 30.0 / FASTER) / 10)]
    parser.add_argument("--runs", nargs="+", type=_run, default=default, metavar="PROCESSES:MINUTES")
    parser.add_argument("--goal", nargs="+", type=float, default=[48.0, 64.0], help="percent, per number of shots")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="any other key of the configuration")
    parser.add_argument("--output", type=Path, default=Path("runs/minutes"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
