"""What recovered pictures and a published learner reveal of the single pictures that teachers were trained on.

    python examples/benchmark privacy                                  # CIFAR-FS, about 8 minutes on a core
    python examples/benchmark privacy --quick                          # a minute
    python examples/benchmark privacy --data ID_OR_FOLDER --json privacy.json
    python examples/benchmark privacy --learners pooled distilled      # in the place of a trained one

Run it in the repository's folder. Teachers are made here, since nobody says of others' which pictures they saw: each
learns classes of its own, from a random half of each class's pictures (the members); the other half are strangers.
Conv-4, without augmentation and until every member is recognized, which makes membership easier to see than in most
teachers. A learner is trained from them as `hf-free train` does, pictures are recovered from each teacher as
`hf-free invert --generator RUN` does. With --learners, the teachers are pooled as `hf-free pool` does, and one network
is distilled from that as `hf-free distill` does; without a trained learner no pictures are recovered: neither learner
comes with any. Then:

nearer       Of the recovered pictures, the share whose nearest real picture of the same class is a member. 0.5 reveals
             nothing about individuals. In the features of a teacher that knows none of these classes, and in pixels
             (8x8).
membership   AUC of telling members from strangers of the same class by a score, and the share of members above all
             but 1 % of the strangers: closeness to recovered pictures; the loss of what the learner says in the
             teacher's place; that of a classifier made with the learner from one half of the strangers, on the other
             half, and of its features alone, which `learner.answers=false` leaves; that of a classifier made with the
             pooled or the distilled learner; the teacher's own loss, which is what there is to reveal, and which a
             pooled learner brings with it or names. Chance is 0.5, and 1.3 % where there are 150 strangers.

Controls stand beside: drawn pictures, which know nothing, and noisy copies of members, which a leak would look like.
Without --data and without the shared CIFAR-FS, the pictures are the demo's digits.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark import measuring
from benchmark.membership import Estimate, auc, found_at, nearest, over_classes, random_half, share_nearer
from hf_free import FreeConfig, MetaLearner, distill, invert, pool, train
from hf_free.data.procedural.mixture import draw
from hf_free.demo.digits import TEACHERS_DIGITS, drawn_digits
from hf_free.demo.small_teachers import ClassifierRecipe, train_classifier
from hf_free.errors import HfFreeError
from hf_free.evaluation.datasets import LabeledImages, load_labeled_images
from hf_free.inversion.task import RecoveredTask
from hf_free.learner.embedding import Embedding
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.teacher import Teacher
from hf_free.training.folder import RunFolder
from hf_free.version import __version__

DATA = Path("../shared/data/cifar_fs")
SIZE, SMALL = 32, 8
"""Side of the pictures, and of those whose pixels are compared."""

NOISE = 0.1
"""Deviation of the noise on the copies of members that stand for a leak, of pixels in [0, 1]."""

RECOVERED, DRAWN, LEAK = "recovered pictures", "drawn pictures (know nothing)", "noisy copies of members (a leak)"
OTHERS, OWN, PIXELS = "features of another teacher", "features of the teacher itself", "pixels"
LEARNERS_LOSS, OWN_LOSS = "loss of the learner in the teacher's place", "loss of the teacher itself"
CLASSIFIER, OF_FEATURES = "loss of a classifier made with the learner", "the same, of the learner's features alone"
OF_POOLED = "loss of a classifier made with the pooled learner"
OF_DISTILLED = "loss of a classifier made with the distilled learner"
TRAINED, POOLED, DISTILLED = "trained", "pooled", "distilled"
FOUND = "members found at 1 % false alarms"

Space = Callable[[Tensor], Tensor]
"""Pictures uint8 (N, 3, 32, 32) -> (N, D), in which distances are taken."""


@dataclass(frozen=True)
class Subject:
    """A teacher with the pictures of its classes, and which of them it was trained on."""

    folder: Path
    images: Tensor
    labels: Tensor
    inside: Tensor

    def of_class(self, label: int) -> tuple[Tensor, Tensor]:
        """Members and strangers of a class, as many of each."""
        members, strangers = (self.images[(self.labels == label) & side] for side in (self.inside, ~self.inside))
        return members, strangers[: len(members)]


@dataclass(frozen=True)
class Row:
    """A line of one of the two tables."""

    table: str
    what: str
    values: dict[str, Estimate]


@dataclass(frozen=True)
class Results:
    """What was measured, and on what."""

    rows: list[Row]
    data: str
    teachers: int
    n_way: int
    members: int
    """Of each class."""
    accuracy_on_members: float
    accuracy_on_strangers: float
    recovered: int
    minutes: float
    learners: list[str]
    steps: int | None
    """Of training the learner; None where none was trained."""
    unexplained: float | None
    """Share of the variance of the teachers' answers that the learner does not predict; None where it was not said."""
    agreement: float | None
    """Of the distilled learner with the pooled one on drawn pictures, 0 to 1; None where there is none."""
    seed: int
    machine: str
    versions: dict[str, str]
    hf_free: str


def main(arguments: Sequence[str] | None = None) -> None:
    """Make teachers and learner, recover, attack, print two tables."""
    options = read_options(arguments)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            folder = options.output or Path(temporary)
            if folder.is_dir() and any(folder.iterdir()):
                sys.exit(f"{folder} is not empty: give another --output")
            results = measure(options, folder)
    except HfFreeError as error:
        sys.exit(f"Error: {error}")
    if options.json:
        options.json.write_text(json.dumps(asdict(results), indent=2) + "\n", encoding="utf-8")
    print(markdown(results))


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; what --quick makes smaller can still be given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help=f"data set (default: {DATA}, else the demo's digits)")
    parser.add_argument("--split", default="train")
    parser.add_argument("--teachers", type=int, help="default: 12, or 2 with --quick or of digits")
    parser.add_argument("--n-way", type=int, help="classes of a teacher; default: 5, of digits 3")
    parser.add_argument("--epochs", type=int, help="passes of a teacher over its pictures; default: 16, quick 3")
    parser.add_argument("--images-per-class", type=int, help="recovered; default: 40, quick 10")
    parser.add_argument("--minutes", type=float, help="of training or distilling a learner; default: 3, quick 0.3")
    parser.add_argument(
        "--learners",
        nargs="+",
        choices=[TRAINED, POOLED, DISTILLED],
        default=[TRAINED],
        help="whose classifiers are attacked; default: trained",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    parser.add_argument("--output", type=Path, metavar="DIR", help="keep teachers and run there")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the trained and the pooled learner"
    )
    options = parser.parse_args(arguments)
    if options.data is None and DATA.is_dir():
        options.data = str(DATA)
    small = options.quick or options.data is None
    usual = {
        "teachers": 2 if small else 12,
        "n_way": 5 if options.data else 3,
        "epochs": 3 if options.quick else 16,
        "images_per_class": 10 if options.quick else 40,
        "minutes": 0.3 if options.quick else 3.0,
    }
    for name, value in usual.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.teachers < 2:
        parser.error("--teachers: at least 2, since another one's features judge the pictures of each")
    return options


def measure(options: argparse.Namespace, folder: Path) -> Results:
    """All figures."""
    torch.manual_seed(options.seed)
    data = load_labeled_images(options.data, split=options.split) if options.data else drawn_digits(TEACHERS_DIGITS)
    subjects, strangers_known = make_subjects(data, options, folder / "teachers")
    models = [str(subject.folder) for subject in subjects]
    teachers = list(TeacherPool(models))
    run = RunFolder(folder / "run") if TRAINED in options.learners else None
    learners = {} if run is None else trained_learner(models, run, options)
    log = [] if run is None else run.read_log()
    if {POOLED, DISTILLED} & set(options.learners):
        learners |= pooled_learners(models, folder, options)
    known = [recognized(teacher, subject) for teacher, subject in zip(teachers, subjects, strict=True)]
    imitation = learners[OF_DISTILLED].record.imitation if OF_DISTILLED in learners else None
    machine: dict[str, Any] = measuring.machine(torch.device("cpu"))
    return Results(
        rows=attack(subjects, teachers, learners, None if run is None else run.root, options),
        data=Path(data.source).name,
        teachers=len(subjects),
        n_way=options.n_way,
        members=int(subjects[0].inside.sum()) // options.n_way,
        accuracy_on_members=fmean(known),
        accuracy_on_strangers=fmean(strangers_known),
        recovered=options.images_per_class * options.n_way * len(subjects) if run is not None else 0,
        minutes=options.minutes,
        learners=list(options.learners),
        steps=log[-1]["step"] if log else None,
        unexplained=next((row["answers"] for row in reversed(log) if "answers" in row), None),
        agreement=None if imitation is None else imitation.agreement,
        seed=options.seed,
        machine=f"{machine['system']}, {machine['processor']}, {machine['threads']} thread",
        versions=machine["versions"],
        hf_free=__version__,
    )


def trained_learner(models: Sequence[str], run: RunFolder, options: argparse.Namespace) -> dict[str, MetaLearner]:
    """A learner as `hf-free train` makes it, and what its features say alone, by the rows of their classifiers."""
    told("training the learner")
    values = {"models": models, "seed": options.seed, "trainer": {"device": "cpu", "max_minutes": options.minutes}}
    learner = train(FreeConfig.load(values=values, assignments=options.set), output=run.root, progress=False).eval()
    return {CLASSIFIER: learner, OF_FEATURES: without_answers(learner)}


def pooled_learners(models: Sequence[str], folder: Path, options: argparse.Namespace) -> dict[str, MetaLearner]:
    """The teachers as `hf-free pool` joins them, and one network of them as `hf-free distill` makes it."""
    told("pooling the teachers")
    five = FreeConfig.load(values={"seed": options.seed}, assignments=options.set).five
    pooled = pool(models, output=folder / "pooled", five=five, seed=options.seed, device="cpu")
    found = {OF_POOLED: pooled} if POOLED in options.learners else {}
    if DISTILLED in options.learners:
        told("distilling the pooled learner")
        place, minutes = folder / "distilled", options.minutes
        found[OF_DISTILLED] = distill(pooled, place, minutes=minutes, seed=options.seed, device="cpu")
    return found


def told(text: str) -> None:
    """Say on standard error what is being done."""
    print(text, file=sys.stderr, flush=True)


def make_subjects(data: LabeledImages, options: argparse.Namespace, folder: Path) -> tuple[list[Subject], list[float]]:
    """Teachers without a class in common, and the share of its strangers that each recognizes."""
    wanted = options.teachers * options.n_way
    if wanted > len(data.class_names):
        sys.exit(f"{options.teachers} teachers of {options.n_way} classes: there are {len(data.class_names)} classes")
    images, generator = data.at_size(SIZE), torch.Generator().manual_seed(options.seed)
    order = torch.randperm(len(data.class_names), generator=generator)
    subjects, accuracies = [], []
    for number, classes in enumerate(order[:wanted].split(options.n_way)):
        told(f"training teacher {number + 1} of {options.teachers}")
        places = [torch.nonzero(data.labels == label).flatten() for label in classes]
        labels = torch.arange(len(classes)).repeat_interleave(torch.tensor([len(part) for part in places]))
        own, inside = images[torch.cat(places)], random_half(labels, generator)
        recipe = ClassifierRecipe(
            architecture="conv4_32",
            epochs=options.epochs,
            batch_size=32,
            lr=1e-2,
            shift=0,
            flip=False,
            seed=options.seed + number,
        )
        trained = train_classifier(recipe, own[inside], labels[inside], held_out=(own[~inside], labels[~inside]))
        subject = Subject(folder / f"{number:03d}", own, labels, inside)
        trained.save(subject.folder, label_names=[data.class_names[label] for label in classes])
        subjects.append(subject)
        accuracies.append(trained.accuracy)
    return subjects, accuracies


def recognized(teacher: Teacher, subject: Subject) -> float:
    """Share of its members that a teacher recognizes."""
    best = answers(teacher.logits, subject.images[subject.inside]).argmax(1)
    return (best == subject.labels[subject.inside]).float().mean().item()


@torch.no_grad()
def answers(ask: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """What a network says of uint8 pictures, in parts."""
    return torch.cat([ask(part.float() / 255) for part in images.split(256)])


def feature_space(teacher: Teacher) -> Space:
    """A teacher's features, of length 1."""
    return lambda images: F.normalize(answers(teacher.features, images), dim=1)


def pixel_space(images: Tensor) -> Tensor:
    """Pixels of pictures made small by averages."""
    return F.adaptive_avg_pool2d(images.float() / 255, SMALL).flatten(1)


def attack(
    subjects: Sequence[Subject],
    teachers: Sequence[Teacher],
    learners: Mapping[str, MetaLearner],
    run: Path | None,
    options: argparse.Namespace,
) -> list[Row]:
    """Each figure, class by class, then over the classes.

    Args:
        subjects: Who is attacked.
        teachers: Their networks.
        learners: Whose classifiers are asked, by what their rows say.
        run: Whose generator recovers pictures; None recovers none.
        options: The command line.
    """
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    learner = learners.get(CLASSIFIER)
    for number, (subject, teacher) in enumerate(zip(subjects, teachers, strict=True)):
        told(f"attacking teacher {number + 1} of {len(teachers)}")
        per_class = options.images_per_class
        task = recovered(teacher, run, options)
        generator = torch.Generator().manual_seed(options.seed * 100_003 + number)
        judge = teachers[(number + 1) % len(teachers)]
        for label in range(options.n_way):
            members, strangers = subject.of_class(label)
            sets = {
                **({} if task is None else {RECOVERED: task.images[task.labels == task.classes.index(label)]}),
                DRAWN: drawn(teacher, per_class, generator),
                LEAK: noisy(members[:per_class], generator),
            }
            scores = closeness(sets, members, strangers, {OTHERS: judge, OWN: teacher})
            for (what, space), (ours, inside, outside) in scores.items():
                if space != OWN:  # where members lie closer together, whatever pictures they are compared with
                    nearer = share_nearer(ours, inside, outside)
                    found.setdefault(("nearer", what), {}).setdefault(space, []).append(nearer)
                note_scores(found, f"closeness to {what}, {space}", -nearest(inside, ours), -nearest(outside, ours))
            known = {OWN_LOSS: teacher.logits}
            if learner is not None and learner.embedding.sizes is not None:
                known[LEARNERS_LOSS] = in_place_of(learner, number)
            for what, ask in known.items():
                note_scores(found, what, *(-losses(ask, side, label) for side in (members, strangers)))
        for what, one in learners.items():
            note_classifier(found, what, one, subject, options.n_way)
    return [
        Row(table, what, {column: over_classes(values, options.seed) for column, values in columns.items()})
        for (table, what), columns in found.items()
    ]


def recovered(teacher: Teacher, run: Path | None, options: argparse.Namespace) -> RecoveredTask | None:
    """What a run's generator recovers from a teacher; None without a run."""
    if run is None:
        return None
    return invert(teacher, generator=run, images_per_class=options.images_per_class, seed=options.seed, device="cpu")


def closeness(
    sets: Mapping[str, Tensor], members: Tensor, strangers: Tensor, judges: Mapping[str, Teacher]
) -> dict[tuple[str, str], tuple[Tensor, Tensor, Tensor]]:
    """Pictures of each set, members and strangers in each space: features of the judges, and pixels."""
    spaces: dict[str, Space] = {name: feature_space(judge) for name, judge in judges.items()} | {PIXELS: pixel_space}
    placed = {name: (space(members), space(strangers)) for name, space in spaces.items()}
    return {(what, name): (spaces[name](sets[what]), *placed[name]) for what in sets for name in spaces}


def note_scores(
    found: dict[tuple[str, str], dict[str, list[float]]], what: str, members: Tensor, strangers: Tensor
) -> None:
    """Add what an attack by a score reaches on one class."""
    columns = found.setdefault(("membership", what), {})
    columns.setdefault("AUC", []).append(auc(members, strangers))
    columns.setdefault(FOUND, []).append(found_at(members, strangers))


def note_classifier(
    found: dict[tuple[str, str], dict[str, list[float]]], what: str, learner: MetaLearner, subject: Subject, n_way: int
) -> None:
    """Adapt a learner to every other stranger of each class; what losses of members and the other strangers tell."""
    sides = [subject.of_class(label) for label in range(n_way)]
    shown = [strangers[::2] for _, strangers in sides]
    labels = torch.arange(n_way).repeat_interleave(torch.tensor([len(part) for part in shown]))
    classifier = learner.adapt(torch.cat(shown), labels)
    for label, (members, strangers) in enumerate(sides):
        scores = [classifier.predict_proba(side)[:, label].log() for side in (members, strangers[1::2])]
        note_scores(found, what, *scores)


def without_answers(learner: MetaLearner) -> MetaLearner:
    """What a learner says with its features alone."""
    other = copy.deepcopy(learner)
    other.embedding = Embedding()
    return other


def in_place_of(learner: MetaLearner, number: int) -> Callable[[Tensor], Tensor]:
    """The logits that a learner predicts for one of its teachers."""
    sizes = list(learner.embedding.sizes or ())
    return lambda images: learner.raw_answers(images).split(sizes, 1)[number]


def losses(ask: Callable[[Tensor], Tensor], images: Tensor, label: int) -> Tensor:
    """Cross-entropy of what a network says of each picture of a class, in nats."""
    return F.cross_entropy(answers(ask, images), torch.full((len(images),), label), reduction="none")


def drawn(teacher: Teacher, count: int, generator: torch.Generator) -> Tensor:
    """Pictures drawn in a teacher's colors, uint8."""
    colors = [(teacher.record.mean, teacher.record.std)]
    return as_bytes(draw(colors, count, SIZE, channels=3, generator=generator))


def noisy(images: Tensor, generator: torch.Generator) -> Tensor:
    """Copies with noise, uint8."""
    return as_bytes(images / 255 + NOISE * torch.randn(images.shape, generator=generator))


def as_bytes(images: Tensor) -> Tensor:
    """Pictures around [0, 1] as uint8."""
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)


def markdown(results: Results) -> str:
    """Both tables, and what they were measured on."""
    text = []
    for table, first in (("nearer", "pictures"), ("membership", "score")):
        rows = [row for row in results.rows if row.table == table]
        columns = list(rows[0].values)
        text += [f"| {first} | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
        text += [f"| {row.what} | {' | '.join(str(row.values[column]) for column in columns)} |" for row in rows]
        text.append("")
    text.append(
        f"{results.data}: {results.teachers} teachers, {results.n_way} classes each, {results.members} members a "
        f"class. They recognize {100 * results.accuracy_on_members:.1f} % of members, "
        f"{100 * results.accuracy_on_strangers:.1f} % of strangers. {results.recovered} recovered pictures; "
        f"{'; '.join(described(results))}; seed {results.seed}. Means over classes with the 95 % interval of classes "
        "drawn anew."
    )
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    text.append(f"{results.machine}; hf-free {results.hf_free}, {versions}.")
    return "\n".join(text)


def described(results: Results) -> list[str]:
    """The learners, in words."""
    words = []
    if results.steps is not None:
        share = results.unexplained
        left = "" if share is None else f", which misses {100 * share:.0f} % of the variance of the teachers' answers"
        words.append(f"a learner of {results.steps} steps in {results.minutes:g} minutes{left}")
    if POOLED in results.learners:
        words.append("a pooled learner")
    if results.agreement is not None:
        agreed = f"agrees with the pooled one by {results.agreement:.2f} of 1"
        words.append(f"a learner distilled in {results.minutes:g} minutes, which {agreed}")
    return words


if __name__ == "__main__":
    main()
