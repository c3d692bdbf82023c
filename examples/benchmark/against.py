"""How much faster this is than an earlier commit: verbs as users start them, and loading many teachers, in turn.

    python examples/benchmark against --zoo ZOO --data DATA --commit 48d0aee --json figures.json --quick

ZOO is a folder of teachers of 32 pixels, DATA a folder or Hub id of a data set with a split `validation`. The earlier
commit's files go into a scratch folder, and both run with the packages of today. Each row is timed in a process of its
own, once or several times (`--rounds`), the two commits one after the other; ratios are of medians. Processor time is
the fair one where other programs run; the wall clock also tells what is done in parallel.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

MAKE = """
import sys
from pathlib import Path
from hf_free import FreeConfig, train
length = {"steps": 1, "warmup_steps": 0, "max_minutes": None}
easy = {"teachers_per_step": 2, "min_teacher_accuracy": 0.0, "min_diversity": 0.0}
config = FreeConfig.from_dict({"models": sys.argv[2:], "trainer": length, "five": easy})
train(config, output=Path(sys.argv[1]))
"""
"""A learner of all teachers, made in one step by the earlier commit: both read it."""

LOAD = """
import sys
from pathlib import Path
from hf_free.teachers.pool import TeacherPool
folder, count = sys.argv[1], int(sys.argv[2])
pool = TeacherPool([str(path) for path in sorted(Path(folder).iterdir())][:count], budget="8GiB")
assert len(pool) == count, len(pool)
"""


@dataclass(frozen=True)
class Row:
    """Something that is timed."""

    name: str
    words: Sequence[str]
    """What follows `python`."""
    rounds: int


@dataclass(frozen=True)
class Taken:
    """Seconds of one process."""

    processor: float
    wall: float


def timed(words: Sequence[str], tree: Path | None, folder: Path) -> Taken:
    """Run Python with the files of a commit.

    Args:
        words: Its arguments.
        tree: Where the commit's files lie; None takes what is installed.
        folder: Where it runs.
    """
    environment = {**os.environ, "PYTHONPATH": str(tree or ""), "PYTHONSAFEPATH": "1"}
    before, start = os.times(), time.perf_counter()
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
    after = os.times()
    if done.returncode:
        sys.exit(f"{' '.join(words)[:200]} failed with the files of {tree or 'today'}:\n{done.stderr[-2000:]}")
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return Taken(used, time.perf_counter() - start)


def unpacked(commit: str, tree: Path) -> Path:
    """A commit's files, as an editable install would have them."""
    packed = subprocess.run(["git", "archive", commit], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(tree, filter="data")
    (tree / "hf_free" / "cli").symlink_to(tree / "cli", target_is_directory=True)
    return tree


def linked(zoo: Path, count: int, folder: Path) -> Path:
    """A folder of so many teachers: links to those of a zoo, again and again."""
    teachers = sorted(path.parent for path in zoo.glob("*/config.json"))
    folder.mkdir()
    for index in range(count):
        (folder / f"{index:05d}").symlink_to(teachers[index % len(teachers)].resolve(), target_is_directory=True)
    return folder


def pictures(data: str, folder: Path) -> None:
    """Three pictures each of five classes of a data set, and four more of each, as files."""
    from hf_free.evaluation.datasets import load_labeled_images

    images = load_labeled_images(data, split="validation")
    for label in range(5):
        for place, index in enumerate((images.labels == label).nonzero().flatten().tolist()[:7]):
            kept = folder / "support" / f"class-{label}" if place < 3 else folder / "new"
            kept.mkdir(parents=True, exist_ok=True)
            images.images[index].save(kept / f"{label}-{place}.png")


def rows(options: argparse.Namespace, learner: Path, many: Path) -> list[Row]:
    """What is timed; cheap rows first."""
    verb, count, cases = ["-m", "hf_free.cli.main"], len(list(many.iterdir())), ["--split", "validation"]
    evaluate = [*verb, "evaluate", str(learner), "--dataset", options.data, *cases]
    return [
        Row(
            "predict, 20 pictures",
            [*verb, "predict", str(learner), "--support", "support", "--images", "new"],
            options.rounds,
        ),
        Row("evaluate, 600 episodes", [*evaluate, "--episodes", "600"], options.rounds),
        Row("evaluate, 20 episodes", [*evaluate, "--episodes", "20"], options.rounds),
        Row(f"load {count} teachers", ["-c", LOAD, str(many), str(count)], 1),
        Row("evaluate, 600 episodes, --baselines all", [*evaluate, "--episodes", "600", "--baselines", "all"], 1),
    ]


def main() -> None:
    """Print a line for each row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, required=True, help="folder of teachers of 32 pixels")
    parser.add_argument("--data", required=True, help="data set with a split `validation`: a folder or a Hub id")
    parser.add_argument("--commit", default="48d0aee", help="the earlier one")
    parser.add_argument("--rounds", type=int, default=3, help="of rows that take seconds; the others run once")
    parser.add_argument("--quick", action="store_true", help="one round, 10 teachers, 100 to load")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.rounds = 1 if options.quick else options.rounds
    if Path(options.data).exists():  # the commands run in a folder of their own
        options.data = str(Path(options.data).resolve())
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        trees = [unpacked(options.commit, root / "earlier"), None]
        pictures(options.data, root)
        teachers = sorted(str(path.parent.resolve()) for path in options.zoo.glob("*/config.json"))
        timed(["-c", MAKE, str(root / "run"), *teachers[: 10 if options.quick else None]], trees[0], root)
        many = linked(options.zoo, 100 if options.quick else 1_000, root / "many")
        for row in rows(options, root / "run" / "learner", many):
            taken = [[timed(row.words, tree, root) for tree in trees] for _ in range(row.rounds)]
            columns = [list(zip(*taken, strict=True))[place] for place in (0, 1)]
            seconds = {
                kind: [statistics.median(getattr(one, kind) for one in column) for column in columns]
                for kind in ("processor", "wall")
            }
            ratios = {kind: new / old for kind, (old, new) in seconds.items()}
            found[row.name] = {"seconds": seconds, "ratio": ratios, "rounds": row.rounds}
            shown = "; ".join(
                f"{kind} {old:.2f} -> {new:.2f} s, {new / old:.2f}" for kind, (old, new) in seconds.items()
            )
            print(f"{row.name}: {shown}", flush=True)
    if options.json:
        options.json.write_text(
            json.dumps({"commit": options.commit, "rows": found}, indent=2) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
