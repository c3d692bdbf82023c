"""Saves of the verbs that write files, killed with SIGKILL: what is there is the old product or the new one, whole.

`python tests/support/killed_saves.py --kills 20` prints a line per verb and exits with 1 unless every kill left the
one or the other, and the next call of the same verb left nothing unfinished. Half of the kills come just before a
change to the output, half within the time that a save takes. A process of its own, with one thread: what it forks must
not have computed with several.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from kills import is_change, killed
from pico import pico_folder
from PIL import Image
from torch import Tensor

from hf_free import FewShotClassifier, MetaLearner
from hf_free.cli.main import main as program

IMAGES = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
LICENSE = "---\nlicense: mit\n---\n"
UNFINISHED = (".new", ".old")


def of_file(path: Path) -> str:
    """What a file is known by."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def of_tensor(said: Tensor) -> str:
    """What a learner or classifier is known by: its answers."""
    return hashlib.sha256(said.numpy().tobytes()).hexdigest()


def of_learner(folder: Path) -> str:
    """A learner's answers."""
    return of_tensor(MetaLearner.from_pretrained(folder).embed(IMAGES))


def of_classifier(folder: Path) -> str:
    """A classifier's answers."""
    return of_tensor(FewShotClassifier.from_pretrained(folder).predict_proba(IMAGES))


def of_program(path: Path) -> str:
    """An exported program together with the labels beside it; one without labels is none."""
    return f"{of_file(path)} {json.loads(path.with_name(f'{path.name}.json').read_text())['labels']}"


@dataclass(frozen=True)
class Verb:
    """A verb that writes `output`."""

    output: Path
    words: tuple[Sequence[str], Sequence[str]]
    """The command lines of the old product and of the new one."""
    read: Callable[[Path], str]
    may_be_gone: bool = False
    """Whether neither is a good outcome too: of an export, whose files belong together."""

    def run(self, which: int) -> None:
        """Make the old product, 0, or the new one, 1."""
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = program([*self.words[which], "--output", str(self.output)])
        assert code == 0, said.getvalue()

    def found(self) -> str | None:
        """What lies there; None for nothing."""
        try:
            return self.read(self.output)
        except FileNotFoundError:
            return None

    def left(self) -> list[str]:
        """What is unfinished."""
        folder = self.output.parent
        return [path.name for path in folder.rglob(".*") if path.name.endswith(UNFINISHED) or "saving-" in path.name]


def verbs(root: Path) -> dict[str, Verb]:
    """Each verb with two products, of small teachers, learners and pictures that are made here."""
    teachers = [pico_folder(root / f"teacher{seed}", size=16, seed=seed, num_classes=3) for seed in range(2)]
    for teacher in teachers:
        (teacher / "README.md").write_text(LICENSE)
    for place, name in enumerate("xyz"):
        for number in range(3):
            picture = root / "pictures" / name / f"{number}.png"
            picture.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), (40 * place + 60, 50 * number + 20, 90)).save(picture)
    (root / "more").symlink_to(root / "pictures" / "x")
    (out := root / "out").mkdir()
    one, other = map(str, teachers)
    small = ["--set", "five.inner_steps=1", "five.images_per_class=2"]
    pooled = ["pool", "--include-weights", "--overwrite", *small, "--models"]
    learners = [root / "learner0", root / "learner1"]
    for learner, teacher in zip(learners, (one, other), strict=True):
        Verb(learner, ([*pooled, teacher], []), of_learner).run(0)
    support = ["--support", str(root / "pictures"), "--overwrite"]
    classifiers = [root / "classifier0", root / "classifier1"]
    adapted = [["adapt", str(learner), *support] for learner in learners]
    for classifier, words in zip(classifiers, adapted, strict=True):
        Verb(classifier, (words, []), of_classifier).run(0)
    drawn = [["invert", one, "--steps", "1", "--images-per-class", "4", "--seed", str(seed)] for seed in range(2)]
    pictures = [["predict", str(classifiers[0]), "--images", str(root / name)] for name in ("pictures", "more")]
    reported = [["report", str(learner)] for learner in learners]
    exported = [["export", str(classifier)] for classifier in classifiers]
    return {
        "invert": Verb(out / "grid.png", (drawn[0], drawn[1]), of_file),
        "pool": Verb(out / "pooled", ([*pooled, one, other], [*pooled, other]), of_learner),
        "adapt": Verb(out / "classifier", (adapted[0], adapted[1]), of_classifier),
        "predict": Verb(out / "labels.csv", (pictures[0], pictures[1]), of_file),
        "report": Verb(out / "page.html", (reported[0], reported[1]), of_file),
        "export": Verb(out / "program.pt2", (exported[0], exported[1]), of_program, may_be_gone=True),
    }


def changes_of(verb: Verb, root: Path) -> tuple[int, float]:
    """How many changes a save over the old product makes, and how many seconds pass from the first to the last."""
    noted = root / "changes"

    def work() -> None:
        at: list[float] = []

        def count(event: str, arguments: tuple[object, ...]) -> None:
            if is_change(event, arguments, verb.output.parent):
                at.append(time.monotonic())

        sys.addaudithook(count)
        verb.run(1)
        seconds = at[-1] - at[0] if at else 0.0
        noted.write_text(json.dumps([len(at), seconds]))

    assert not killed(work)
    count, seconds = json.loads(noted.read_text())
    return count, seconds


def kill(verb: Verb, kills: int, root: Path, draw: random.Random) -> dict[str, int]:
    """Kill a verb's saves; counts of what came of it."""
    products = []
    for which in range(2):
        assert not killed(lambda which=which: verb.run(which))
        products.append(verb.found())
    assert None not in products
    assert products[0] != products[1]
    assert not killed(lambda: verb.run(0))
    changes, seconds = changes_of(verb, root)
    counts = {"killed": 0, "old": 0, "new": 0, "none": 0, "mixed": 0, "left": 0}
    for number in range(kills):
        assert not killed(lambda: verb.run(0))
        counts["left"] += bool(verb.left()) or verb.found() != products[0]
        by_clock = number % 2 == 1
        at = {"after_first": draw.uniform(1e-4, seconds + 1e-3)} if by_clock else {"at_call": draw.randint(1, changes)}
        counts["killed"] += killed(lambda: verb.run(1), below=verb.output.parent, **at)
        found = verb.found()
        outcome = "none" if found is None and verb.may_be_gone else "mixed"
        counts[("old", "new")[products.index(found)] if found in products else outcome] += 1
    assert not killed(lambda: verb.run(0))
    counts["left"] += bool(verb.left())
    return counts


def main() -> int:
    """Kill as many saves of each verb as asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=20, help="of each verb")
    parser.add_argument("--only", nargs="+", metavar="VERB", help="these verbs alone")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ.setdefault("COLUMNS", "160")
    draw, bad = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for name, verb in verbs(root).items():
            if options.only and name not in options.only:
                continue
            counts = kill(verb, options.kills, root, draw)
            bad += counts["mixed"] + counts["left"]
            sys.stdout.write(json.dumps({"verb": name, **counts}) + "\n")
            sys.stdout.flush()
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
