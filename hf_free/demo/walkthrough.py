"""The demo: teachers, a Hub, `hf-free train`, `pool` and `evaluate`, on one computer, on idle cores in three minutes.

Everything is done with the very commands that a user would type, in processes of their own, against a small Hub on
127.0.0.1 (`hf_free.hub.loopback.hub`). Nothing is downloaded and nothing leaves the computer.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import torch

from hf_free.data.images import WRITING_VIEWS
from hf_free.demo.digits import CANVAS, LICENSE, NEW_DIGITS, TEACHERS_DIGITS, drawn_digits
from hf_free.demo.small_teachers import ClassifierRecipe, train_classifier
from hf_free.demo.teacher_card import teacher_card
from hf_free.errors import RunError
from hf_free.hub.loopback.hub import LoopbackHub
from hf_free.runtime.files import write_text
from hf_free.runtime.processes import in_parallel

if TYPE_CHECKING:
    from hf_free.runtime.progress import Console

USER = "demo"
"""Namespace on the loopback Hub."""

LEARNER, DATASET = f"{USER}/learner", f"{USER}/new-digits"

EXAMPLES, NEW_PICTURES = 5, 25
"""Files of each new digit that the demo leaves: to learn it from, and to try the learner on."""

COPIES = 3
"""How often each of the teachers' digits is drawn."""

FEWEST_DIGITS, MOST_DIGITS = 4, 5
"""Digits that a teacher knows."""

_SETTINGS = {"OMP_NUM_THREADS": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
"""Networks this small gain little from a second thread, and lose most of their speed to it on a busy computer: twelve
steps took 31 s with one thread and 130 s with two, on two cores that had other work."""

HELD_OUT = 5
"""Every fifth handwritten sample is kept aside to measure a teacher."""

_RECIPE = ClassifierRecipe(architecture="", batch_size=64, lr=4e-3, shift=2, flip=False)
_CONV4 = replace(_RECIPE, architecture="conv4_32", epochs=5)
_RESNET = replace(_RECIPE, architecture="test_resnet", epochs=8)
_CONVNEXT_ARGS = {"patch_size": 2, "ls_init_value": 1.0}
_VIT_ARGS = {"patch_size": 8, "img_size": 32, "depth": 3, "global_pool": "avg", "class_token": False}

POOLED = "pooled"
"""Folder of the pooled learner, below the run's."""

RECIPES = (
    replace(_RECIPE, architecture="test_vit", model_args=_VIT_ARGS, epochs=20, batch_size=32, lr=1e-3),
    replace(_RECIPE, architecture="test_convnext", model_args=_CONVNEXT_ARGS, epochs=8),
    replace(_RECIPE, architecture="test_efficientnet", epochs=8),
    _CONV4,
    _CONV4,
    _RESNET,
    _RESNET,
)
"""The teachers, slowest first: ViT- and ConvNeXt-like with LayerNorm, the others with BatchNorm."""


@dataclass(frozen=True, kw_only=True)
class DemoLength:
    """How much work the demo does."""

    recipes: tuple[ClassifierRecipe, ...] = RECIPES
    """Teachers to train."""
    workers: int | None = None
    """Teachers trained at once; None takes one per core."""
    copies: int = COPIES
    """Drawings of each digit that teachers see."""
    steps: int = 60
    """Outer steps of `hf-free train`."""
    max_minutes: float = 10.0
    """Minutes that training ends after. On two idle cores it takes two; a computer a quarter as fast still recovers in
    ten steps instead of 18, and six would cost 7 points (docs/experiments/few-teachers.md)."""
    episodes: int = 600
    """Episodes of `hf-free evaluate`."""
    settings: tuple[str, ...] = (
        "trainer.warmup_steps=3",
        "trainer.picture_every=1000",
        "trainer.log_every=2",
        "five.images_per_class=10",
        "five.recover_share=0.3",
        "memory.drawn_per_step=256",
        "bell.batch_size=128",
        WRITING_VIEWS,
    )
    """What differs from the default recipe, for a run of a minute."""
    pooled_settings: tuple[str, ...] = (WRITING_VIEWS, "five.flip=false")
    """What differs for the pooled learner."""


def run_demo(
    output: Path,
    seed: int = 0,
    console: Console | None = None,
    *,
    length: DemoLength | None = None,
    commands_to: TextIO | None = None,
) -> dict[str, object]:
    """Train teachers on digits 0 to 6, learn from them without data, measure on digits 7, 8 and 9.

    Args:
        output: Folder of the run: what `hf-free train` leaves, `results.json`, the teachers, some pictures of the
            new digits, `pooled/`, the pooled learner, and `published/`, a copy of the repository on the loopback Hub.
        seed: Seed of teachers, training and episodes; the pictures are always the same.
        console: Where the story is told; None tells nothing (the commands write to stdout and stderr all the same).
        length: How much work to do.
        commands_to: Where the commands' results go; None: to stdout, as they would.

    Returns:
        What `hf-free evaluate` measured, `EvaluationReport.to_dict()`.

    Raises:
        RunError: one of the commands failed; it has said why.
    """
    length, tell = length or DemoLength(), _Teller(console)
    output = output.absolute()
    with (
        tempfile.TemporaryDirectory(prefix="hf-free-demo-", ignore_cleanup_errors=True) as scratch,
        LoopbackHub() as hub,
    ):
        token = hub.add_user(USER)
        tell.title("1. Teachers: small classifiers, each of a few of the digits 0 to 6, go to a Hub on this computer")
        teachers = _publish_teachers(hub, Path(scratch), seed, length, tell)
        _publish_new_digits(hub)
        client = _Client({**_SETTINGS, **hub.environment(token, Path(scratch) / "home")}, tell, commands_to)

        tell.title("2. Learn from the teachers without their data, and publish the learner")
        client.run(_train_arguments(teachers, _as_typed(output), seed, length))

        tell.title("3. Or keep the teachers themselves, weighed by their agreement: larger, and ready at once")
        for name in teachers:
            _write_files(hub.read_repo(name), output / "teachers" / _folder(name))
        client.run(_pool_arguments(teachers, _as_typed(output), seed, length))

        tell.title("4. Load both back and meet the digits 7, 8 and 9, which no teacher has seen")
        results = output / "results.json"
        client.run(_evaluate_arguments(_as_typed(results), _as_typed(output / POOLED), seed, length.episodes))
        _write_files(hub.read_repo(LEARNER), output / "published")
    _write_pictures(output / "digits")
    place = _as_typed(output)
    tell.title(f"5. What is left in {place}; the Hub of the demo is gone")
    tell.line(f"card:              {place / 'published' / 'README.md'}")
    tell.line(f"recovered digits:  {place / 'pictures' / 'recovered.png'}")
    tell.line(f"results:           {place / 'results.json'}")
    tell.line(f"teachers:          {place / 'teachers'}")
    tell.line(f"learner:           {place / 'published'}, for MetaLearner.from_pretrained")
    tell.line(f"pooled learner:    {place / POOLED}, likewise")
    tell.title("6. Three commands to go on with; put your own pictures and models in the place of these")
    for words in _next_commands(place, teachers):
        tell.line(f"$ {shlex.join([*_program(), *words])}")
    tell.line(f"It took {tell.seconds():.0f} s.")
    return json.loads(results.read_text(encoding="utf-8"))


class _Teller:
    """Plain lines on a console, or nowhere, and the time since the start."""

    def __init__(self, console: Console | None) -> None:
        self._console, self._start = console, time.monotonic()

    def title(self, text: str) -> None:
        if self._console is not None:
            self._console.print(f"\n{text}", style="bold", markup=False, soft_wrap=True)

    def line(self, text: str, style: str = "") -> None:
        if self._console is not None:
            self._console.print(f"  {text}", style=style, markup=False, soft_wrap=True)

    def seconds(self) -> float:
        return time.monotonic() - self._start


class _Client:
    """Runs hf-free's commands with a client's environment."""

    def __init__(self, environment: dict[str, str], tell: _Teller, output: TextIO | None = None) -> None:
        self._environment, self._tell, self._output = environment, tell, output

    def run(self, arguments: Sequence[str]) -> None:
        """Show and run one command; its output goes where this process's goes.

        Raises:
            RunError: it failed.
        """
        self._tell.line(f"$ hf-free {shlex.join(arguments)}", style="dim")
        sys.stdout.flush()
        command = [sys.executable, "-m", "hf_free.cli.main", *arguments]
        done = subprocess.run(command, env=self._environment, stdout=self._output)
        if done.returncode:
            raise RunError(
                f"the demo's command `hf-free {arguments[0]}` ended with {done.returncode}",
                action="its own message stands above; the Hub that it names has gone with the demo: mend the cause, "
                "and run hf-free demo again",
            )


def _next_commands(place: Path, teachers: Sequence[str]) -> list[list[str]]:
    """What to try on what is left in the run's folder, without the Hub that is gone."""
    digits = place / "digits"
    folders = [str(place / "teachers" / _folder(name)) for name in teachers[-2:]]
    return [
        ["predict", str(place), "--support", str(digits / "examples"), "--images", str(digits / "new")],
        ["evaluate", str(place), "--dataset", str(digits / "new"), "--n-way", str(len(NEW_DIGITS))],
        ["train", "--models", *folders, "--dry-run"],
    ]


def _program() -> list[str]:
    """How to call hf-free from here: by its name, or by a path where its folder is not on the search path."""
    beside = Path(sys.executable).parent / "hf-free"
    if shutil.which("hf-free"):
        return ["hf-free"]
    return [str(_as_typed(beside))] if beside.exists() else [sys.executable, "-m", "hf_free.cli.main"]


def _as_typed(path: Path) -> Path:
    """A path relative to the current folder, where it lies in it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _write_pictures(folder: Path) -> None:
    """Some of the new digits as files: `examples` to learn them from, and `new` ones, one folder per digit."""
    from PIL import Image

    data = drawn_digits(NEW_DIGITS)
    images = data.at_size(CANVAS)
    for label, digit in enumerate(NEW_DIGITS):
        for place, picture in enumerate(images[data.labels == label][: EXAMPLES + NEW_PICTURES]):
            part = folder / ("examples" if place < EXAMPLES else "new") / str(digit)
            part.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture.permute(1, 2, 0).numpy()).save(part / f"{place:02d}.png")


def _train_arguments(teachers: Sequence[str], output: Path, seed: int, length: DemoLength) -> list[str]:
    return [
        *("train", "--models", *teachers, "--backbone", "conv4_64", "--seed", str(seed)),
        *("--steps", str(length.steps), "--max-minutes", f"{length.max_minutes:g}", "--set", *length.settings),
        *("--output", str(output), "--push-to-hub", LEARNER),
    ]


def _folder(name: str) -> str:
    """A teacher's repository without its owner."""
    return name.removeprefix(f"{USER}/")


def _pool_arguments(teachers: Sequence[str], output: Path, seed: int, length: DemoLength) -> list[str]:
    """From the teachers' copies in the run's folder: the Hub of the demo will be gone."""
    folders = [str(output / "teachers" / _folder(name)) for name in teachers]
    return [
        *("pool", "--models", *folders, "--seed", str(seed), "--set", *length.pooled_settings),
        *("--output", str(output / POOLED)),
    ]


def _evaluate_arguments(results: Path, pooled: Path, seed: int, episodes: int) -> list[str]:
    return [
        *("evaluate", LEARNER, "--dataset", DATASET, "--split", "test", "--n-way", str(len(NEW_DIGITS))),
        *("--k-shot", "1", "5", "--episodes", str(episodes), "--seed", str(seed), "--baselines", "all"),
        *("--compare", str(pooled), "--output", str(results), "--push"),
    ]


@dataclass(frozen=True)
class _TeacherJob:
    name: str
    folder: Path
    digits: tuple[int, ...]
    recipe: ClassifierRecipe
    copies: int


def _publish_teachers(hub: LoopbackHub, scratch: Path, seed: int, length: DemoLength, tell: _Teller) -> list[str]:
    """Train the teachers, as many at once as there are cores, and put each into a repository; their ids."""
    generator = torch.Generator().manual_seed(seed)
    jobs = []
    for index, recipe in enumerate(length.recipes):
        count = int(torch.randint(FEWEST_DIGITS, MOST_DIGITS + 1, (), generator=generator))
        digits = torch.randperm(len(TEACHERS_DIGITS), generator=generator)[:count].sort().values.tolist()
        recipe = replace(recipe, seed=seed * len(length.recipes) + index)
        name = f"{recipe.architecture.replace('_', '-')}-{index}"
        jobs.append(_TeacherJob(f"{USER}/{name}", scratch / name, tuple(digits), recipe, length.copies))
    for job, accuracy in in_parallel(_make_teacher, jobs, workers=length.workers):
        hub.add_repo(job.name, job.folder)
        knows = ", ".join(map(str, job.digits))
        tell.line(f"{job.name:<26} knows {knows:<14} recognizes {100 * accuracy:5.1f} % of held-out digits")
    return [job.name for job in jobs]


def _make_teacher(job: _TeacherJob) -> float:
    """Train one teacher and write its repository; its accuracy on every fifth handwritten sample, held out."""
    data = drawn_digits(job.digits, copies=job.copies, split="train")
    images, samples = data.at_size(CANVAS), len(data) // job.copies
    place = torch.arange(len(data))
    is_held_out = place % samples % HELD_OUT == 0
    asked = is_held_out & (place < samples)
    trained = train_classifier(
        job.recipe, images[~is_held_out], data.labels[~is_held_out], held_out=(images[asked], data.labels[asked])
    )
    trained.save(job.folder, label_names=data.class_names)
    card = teacher_card(trained, data.class_names, data=data.source, data_license=LICENSE)
    write_text(job.folder / "README.md", card)
    return trained.accuracy


def _publish_new_digits(hub: LoopbackHub) -> None:
    """Put the digits 7, 8 and 9 into a data set repository, as Parquet."""
    from hf_free.evaluation.dataset_columns import parquet_of  # `datasets` is slow to import

    data = drawn_digits(NEW_DIGITS)
    parquet = parquet_of(data.at_size(CANVAS), data.labels, data.class_names)
    card = f"---\nlicense: {LICENSE}\n---\n\n# scikit-learn's digits 7, 8 and 9, drawn in color\n"
    files = {"data/test-00000-of-00001.parquet": parquet, "README.md": card.encode()}
    hub.add_repo(DATASET, files, repo_type="dataset")


def _write_files(files: dict[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
