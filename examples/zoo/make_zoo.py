"""Make the teachers of an experiment: classifiers of n classes each, as model repositories in timm's layout.

    python examples/zoo/make_zoo.py --data ../shared/data/cifar_fs --output zoo/ss --tasks 100
    python examples/zoo/make_zoo.py --preset sh --data org/birds --output zoo/sh --tasks 60 --data-license cc-by-4.0
    python examples/zoo/make_zoo.py --preset mh --data ../shared/data/cifar_fs ./cub --image-size 84 --output zoo/mh
    python examples/zoo/make_zoo.py --architectures test_vit test_resnet --data ./pictures --output zoo/tiny --push me

Every data set is a `datasets` id, Parquet or a folder of pictures. A task is n classes drawn with the seed from the
training split; the last fifth of each class is held out to measure the teacher. Run again, finished teachers are
skipped. Pictures are mirrored at random while a teacher learns, but not where the data set's name says that it holds
digits, letters or signs (`never_mirrored`), since a mirrored one is another, or none; --flip and --no-flip say it for
all. Presets are the scenarios of the data-free meta-learning literature (PURER, BiDf-MKD, FREE):

    ss  one data set, one architecture (Conv-4)
    sh  one data set, several architectures (Conv-4, ResNet-10, ResNet-18)
    mh  several data sets and those architectures
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import shutil
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hf_free.demo.small_teachers import ClassifierRecipe, small_image_args, train_classifier
from hf_free.demo.teacher_card import teacher_card
from hf_free.errors import HfFreeError
from hf_free.evaluation.datasets import load_labeled_images
from hf_free.runtime.device import choose_device
from hf_free.runtime.processes import in_parallel

CONV4, RESNETS = "conv4_32", ("resnet10_small", "resnet18_small")
PRESETS = {"ss": (CONV4,), "sh": (CONV4, *RESNETS), "mh": (CONV4, *RESNETS)}

WRITTEN = re.compile(
    r"(?<!fashion)(?<!fashion[-_])mnist|svhn|usps|digit|omniglot|letter|alphabet|character|handwrit|captcha|gtsrb|gtsdb"
    r"|(?<![a-z])signs?(?![a-z])",
    re.IGNORECASE,
)
"""Names of data sets whose pictures mean something else, or nothing, in a mirror."""

HELD_OUT = 0.2
"""Share of each class that measures the teacher (as in FREE's code: the last 20 % of the files)."""


@dataclass(frozen=True)
class Source:
    """Where pictures come from."""

    data: str
    split: str
    image_size: int

    @property
    def name(self) -> str:
        """A short name without the path of a local folder."""
        return Path(self.data).stem if Path(self.data).exists() else self.data


@dataclass(frozen=True)
class Job:
    """One teacher to make."""

    folder: Path
    source: Source
    classes: tuple[int, ...]
    recipe: ClassifierRecipe
    data_license: str | None
    device: str

    def to_dict(self) -> dict[str, Any]:
        """What decides the teacher: two jobs with equal dictionaries make the same one."""
        return {
            "data": self.source.name,
            "split": self.source.split,
            "image_size": self.source.image_size,
            "classes": list(self.classes),
            "recipe": json.loads(json.dumps(self.recipe.to_dict())),
        }


def main() -> None:
    """Make what is missing, then push if asked."""
    options = read_options()
    try:
        jobs = plan(options)
        todo = [job for job in jobs if not is_finished(job)]
        print(f"{len(jobs)} teachers in {options.output}, {len(jobs) - len(todo)} of them finished")
        workers = 1 if torch.device(jobs[0].device).type == "cuda" else options.workers
        for count, (job, accuracy) in enumerate(in_parallel(make_teacher, todo, workers=workers), 1):
            print(f"[{count}/{len(todo)}] {job.folder.name}: {100 * accuracy:.1f} %", flush=True)
        write_index(options.output, jobs)
        if options.push:
            push(jobs, options.push, token=options.token, private=options.private)
    except HfFreeError as error:
        sys.exit(f"Error: {error}")
    except KeyboardInterrupt:
        sys.exit("\nStopped. Finished teachers stay: the same command makes the others.")


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, metavar="ID_OR_DIR", help="data sets")
    parser.add_argument("--output", type=Path, required=True, help="folder of the teachers' folders")
    parser.add_argument("--preset", choices=PRESETS, default="ss", help="scenario of the literature")
    parser.add_argument("--architectures", nargs="+", metavar="NAME", help="in place of the preset's; any timm name")
    parser.add_argument("--model-args", type=json.loads, default={}, metavar="JSON", help="{architecture: {...}}")
    parser.add_argument("--tasks", type=int, default=100, help="teachers in all; data and architectures take turns")
    parser.add_argument("--n-way", type=int, default=5, help="classes of a teacher")
    parser.add_argument("--split", default="train", help="split whose classes teachers may know")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=2e-3, help="peak of AdamW's one-cycle learning rate")
    parser.add_argument("--shift", type=int, default=4, help="random shifts in pixels")
    parser.add_argument(
        "--flip", action=argparse.BooleanOptionalAction, help="mirror pictures; without either, by the data set's name"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, help="teachers at once; one per core by default, one on a GPU")
    parser.add_argument("--data-license", metavar="ID", help="license of the data, for the cards")
    parser.add_argument("--push", metavar="ORG", help="push each teacher to ORG/NAME")
    parser.add_argument("--private", action="store_true", help="create those repositories private")
    parser.add_argument("--token", help="Hub token; better kept in HF_TOKEN or `hf auth login`")
    options = parser.parse_args()
    if options.preset != "mh" and len(options.data) > 1 and not options.architectures:
        parser.error(f"preset {options.preset} takes one data set, {len(options.data)} were given; mh takes several")
    if options.preset == "mh" and len(options.data) < 2:
        parser.error("preset mh takes several data sets, 1 was given; sh makes the same architectures from one")
    if options.tasks < 1 or options.n_way < 2:
        parser.error("at least one task (--tasks) of two classes (--n-way) is needed")
    return options


def plan(options: argparse.Namespace) -> list[Job]:
    """Every teacher with its classes, drawn with the seed; the first tasks do not change when more are asked for."""
    device = str(choose_device(options.device))
    architectures = options.architectures or PRESETS[options.preset]
    jobs = []
    for task in range(options.tasks):
        source = Source(options.data[task % len(options.data)], options.split, options.image_size)
        architecture = architectures[task // len(options.data) % len(architectures)]
        names = pictures(source)[2]
        if len(names) < options.n_way:
            sys.exit(f"Error: {source.data} has {len(names)} classes in split {source.split}, fewer than --n-way")
        generator = torch.Generator().manual_seed(options.seed * 1_000_003 + task)
        chosen = torch.randperm(len(names), generator=generator)[: options.n_way].tolist()
        model_args = {**small_image_args(architecture, options.image_size), **options.model_args.get(architecture, {})}
        recipe = ClassifierRecipe(
            architecture=architecture,
            model_args=model_args,
            epochs=options.epochs,
            batch_size=options.batch_size,
            lr=options.lr,
            shift=options.shift,
            flip=not never_mirrored(source.name) if options.flip is None else options.flip,
            seed=options.seed * 1_000_003 + task,
        )
        name = f"{Path(source.name).name}-{architecture}-{task:03d}".lower().replace("_", "-").replace(".", "-")
        jobs.append(Job(options.output / name, source, tuple(chosen), recipe, options.data_license, device))
    return jobs


def never_mirrored(data: str) -> bool:
    """Whether a data set's name says that it holds digits, letters or signs; clothes in MNIST's format are none."""
    return WRITTEN.search(data.rpartition("/")[2]) is not None


@cache
def pictures(source: Source) -> tuple[Tensor, Tensor, list[str]]:
    """Pictures uint8 (N, 3, S, S), labels (N,) and class names; read once a process."""
    data = load_labeled_images(source.data, split=source.split)
    return data.at_size(source.image_size), data.labels, data.class_names


def is_finished(job: Job) -> bool:
    """Whether the teacher's folder is there.

    Raises:
        HfFreeError: it is there, but was made otherwise.
    """
    path = job.folder / "training.json"
    if not path.is_file():
        return False
    made = json.loads(path.read_text(encoding="utf-8"))
    if {key: made.get(key) for key in job.to_dict()} != job.to_dict():
        raise HfFreeError(f"{job.folder} was made with other settings", action="give another --output")
    return True


def make_teacher(job: Job) -> float:
    """Train one teacher and write its folder, whole or not at all; its accuracy on the held-out pictures."""
    images, labels, names = pictures(job.source)
    seen, asked = [], []
    for position, index in enumerate(job.classes):
        places = (labels == index).nonzero().flatten()
        cut = len(places) - max(1, round(HELD_OUT * len(places)))
        seen.append((places[:cut], torch.full((cut,), position)))
        asked.append((places[cut:], torch.full((len(places) - cut,), position)))
    (train_at, train_labels), (test_at, test_labels) = (
        (torch.cat([places for places, _ in part]), torch.cat([positions for _, positions in part]))
        for part in (seen, asked)
    )
    trained = train_classifier(
        job.recipe, images[train_at], train_labels, held_out=(images[test_at], test_labels), device=job.device
    )
    label_names = [names[index] for index in job.classes]
    partial = job.folder.with_name(f".{job.folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    trained.save(partial, label_names=label_names)
    data = f"{job.source.name}, split {job.source.split}, {len(train_at)} pictures"
    card = teacher_card(trained, label_names, data=data, data_license=job.data_license)
    (partial / "README.md").write_text(card, encoding="utf-8")
    made = {**job.to_dict(), "label_names": label_names, "accuracy": trained.accuracy, "held_out": len(test_at)}
    (partial / "training.json").write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
    if job.folder.exists():
        shutil.rmtree(job.folder)  # without training.json: not finished
    partial.rename(job.folder)
    return trained.accuracy


def write_index(folder: Path, jobs: list[Job]) -> None:
    """One line per teacher: folder, architecture, data, accuracy, classes."""
    with (folder / "index.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["folder", "architecture", "data", "accuracy", "classes"])
        for job in jobs:
            made = json.loads((job.folder / "training.json").read_text(encoding="utf-8"))
            accuracy, classes = f"{made['accuracy']:.4f}", ";".join(made["label_names"])
            writer.writerow([job.folder.name, job.recipe.architecture, made["data"], accuracy, classes])


def push(jobs: list[Job], organization: str, *, token: str | None, private: bool) -> None:
    """Push every teacher; one that is there already, unchanged, makes no new commit."""
    from hf_free.hub.upload import push_folder

    for job in jobs:
        address = push_folder(
            job.folder,
            f"{organization}/{job.folder.name}",
            token=token,
            private=private,
            commit_message="Upload a teacher made with hf-free's examples/zoo/make_zoo.py",
        )
        print(address, flush=True)


if __name__ == "__main__":
    main()
