"""What each prior of the inversion does to the pictures: priors for teachers without BatchNorm, and variety.

    python examples/benchmark priors                       # teachers without BatchNorm (ViT, ConvNeXt)
    python examples/benchmark priors --study diversity     # what keeps the pictures of a class apart

Run it in the repository's folder. For each variant a meta-generator is trained on the same teachers for the same
outer steps from the same seed; then a task is recovered from each teacher with the usual inner steps. The pictures
are judged by the teacher itself and, above all, by teachers that took no part: `others` is how often a Conv-4 of the
judges that knows a class recognizes the pictures of that class (among its own five), `statistics` the mean BatchNorm
distance of judges. `variety` is the mean cosine distance of two pictures of a class, in the teacher's features and
in those of the judges that know the class. A row of real pictures stands beside them where --data is given.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

import torch
from torch import Tensor

from hf_free.config.sections import FiveConfig
from hf_free.inversion.batchnorm_statistics import collected_distances
from hf_free.inversion.five import Five
from hf_free.inversion.losses import pairwise_distance
from hf_free.inversion.task import RecoveredTask, finish_task
from hf_free.runtime.device import Precision
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.teacher import Teacher

JUDGES_A_CLASS = 4
STATISTICS_JUDGES = 10

STUDIES: dict[str, dict[str, dict[str, float | bool]]] = {
    "priors": {
        "cross-entropy alone, no canvas, no shift and flip": {"augment": False, "canvas": False},
        "+ shift and flip": {"canvas": False},
        "+ canvas (the base of the rows below)": {},
        "total variation 1": {"total_variation": 1.0},
        "total variation 10": {"total_variation": 10.0},
        "feature norm 0.1 (DAFL's weight)": {"feature_norm": 0.1},
        "feature norm 1": {"feature_norm": 1.0},
        "borrowed BatchNorm 0.3": {"donor_batchnorm": 0.3},
        "borrowed BatchNorm 1": {"donor_batchnorm": 1.0},
        "borrowed BatchNorm 3": {"donor_batchnorm": 3.0},
        "borrowed BatchNorm 1, total variation 1": {"donor_batchnorm": 1.0, "total_variation": 1.0},
    },
    "diversity": {
        "no canvas": {"canvas": False},
        "no canvas, diversity 1": {"canvas": False, "similarity_hinge": 1.0},
        "no canvas, diversity 10": {"canvas": False, "similarity_hinge": 10.0},
        "canvas (the base of the rows below)": {},
        "diversity 1": {"similarity_hinge": 1.0},
        "diversity 3": {"similarity_hinge": 3.0},
        "diversity 10": {"similarity_hinge": 10.0},
    },
}


def main() -> None:
    """Train, recover, judge, print the table."""
    options = read_options()
    torch.set_num_threads(options.threads)
    subjects, donors, judges = load_teachers(options)
    print(f"{len(subjects)} teachers to invert, {len(donors)} donors, {len(judges)} judges", file=sys.stderr)
    rows = {}
    if options.data is not None:
        rows["real pictures"] = measure(real_tasks(subjects, options), subjects, judges)
    for name, values in STUDIES[options.study].items():
        if options.only and not any(text in name for text in options.only):
            continue
        start = time.perf_counter()
        tasks = []
        for seed in range(options.seeds):
            tasks += recover(subjects, donors, values, seed, options)
        rows[name] = measure(tasks, subjects, judges) | {"seconds": time.perf_counter() - start}
        print(name, rows[name], file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2), encoding="utf-8")
    print(markdown(rows))


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", choices=tuple(STUDIES), default="priors")
    parser.add_argument("--zoo", type=Path, default=Path("../shared/zoo"), help="folder of both sets of teachers")
    parser.add_argument("--data", type=Path, help="data set, for a row of real pictures (its split `train`)")
    parser.add_argument("--outer-steps", type=int, default=30, help="outer steps of meta-training a variant")
    parser.add_argument("--teachers-per-step", type=int, default=2)
    parser.add_argument("--images-per-class", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[], metavar="TEXT", help="variants whose name holds one of these")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows there")
    return parser.parse_args()


def load_teachers(options: argparse.Namespace) -> tuple[list[Teacher], list[Teacher], list[Teacher]]:
    """Teachers to invert, teachers that lend statistics, judges: three sets without a teacher in common."""
    conv4 = sorted(str(path.parent) for path in (options.zoo / "cifar_fs_conv4").glob("*/model.safetensors"))
    mixed = sorted(str(path.parent) for path in (options.zoo / "cifar_fs_mixed").glob("*/model.safetensors"))
    if len(conv4) < 20 or not mixed:
        sys.exit(f"{options.zoo} holds no cifar_fs_conv4 and cifar_fs_mixed: give their folder with --zoo")
    mixed_teachers = list(TeacherPool(mixed))
    if options.study == "priors":
        subjects = [teacher for teacher in mixed_teachers if not teacher.record.has_batchnorm]
        donors = [teacher for teacher in mixed_teachers if teacher.record.has_batchnorm]
        return subjects, donors, list(TeacherPool(conv4))
    return list(TeacherPool(conv4[:6])), [], list(TeacherPool(conv4[6:]))


def recover(
    subjects: Sequence[Teacher],
    donors: Sequence[Teacher],
    values: dict[str, float | bool],
    seed: int,
    options: argparse.Namespace,
) -> list[RecoveredTask]:
    """Meta-train a generator of this variant, then recover a task from each teacher."""
    torch.manual_seed(seed)
    config = replace(FiveConfig(), images_per_class=options.images_per_class, **values)
    device = torch.device("cpu")
    five = Five(config, image_size=32, device=device, precision=Precision.choose("auto", device))

    def any_donor() -> Teacher | None:
        return donors[int(torch.randint(len(donors), ()))] if donors else None

    for _ in range(options.outer_steps):
        chosen = torch.randperm(len(subjects))[: options.teachers_per_step].tolist()
        five.step([(index, subjects[index]) for index in chosen], donor=any_donor())
    tasks = []
    for index, teacher in enumerate(subjects):
        images, wanted, _ = five.adapt(teacher, index, donor=any_donor())
        tasks.append(finish_task(images, wanted.labels, wanted.classes, teacher, index))
    return tasks


def real_tasks(subjects: Sequence[Teacher], options: argparse.Namespace) -> list[RecoveredTask]:
    """Real pictures of each teacher's classes in the place of recovered ones."""
    from hf_free.data.images import Preprocessing, as_batch
    from hf_free.evaluation.datasets import load_labeled_images

    data = load_labeled_images(options.data, split="train")
    tasks = []
    for index, teacher in enumerate(subjects):
        places = [data.class_names.index(name) for name in teacher.record.label_names or ()]
        found = [torch.nonzero(data.labels == place).flatten()[: options.images_per_class] for place in places]
        labels = torch.arange(len(found)).repeat_interleave(torch.tensor([len(f) for f in found]))
        images = as_batch([data.images[i] for i in torch.cat(found).tolist()], Preprocessing(32))
        tasks.append(finish_task(images, labels, tuple(range(len(found))), teacher, index))
    return tasks


@torch.no_grad()
def measure(
    tasks: Sequence[RecoveredTask], subjects: Sequence[Teacher], judges: Sequence[Teacher]
) -> dict[str, float]:
    """Means over tasks; see the top of this file."""
    others, varieties, statistics = [], [], []
    for task in tasks:
        pictures = task.images.float() / 255
        names = subjects[task.teacher].record.label_names or ()
        known, variety = zip(*(ask_judges(pictures[task.labels == i], names[c], judges)
                               for i, c in enumerate(task.classes)), strict=True)  # fmt: skip
        others.append(fmean(value for value in known if value == value))
        varieties.append(fmean(value for value in variety if value == value))
        statistics.append(fmean(distance(pictures, judge) for judge in judges[:STATISTICS_JUDGES]))
    return {
        "accuracy": 100 * fmean(task.health.accuracy for task in tasks),
        "loss": fmean(task.health.loss for task in tasks),
        "others": 100 * fmean(others),
        "interval": 100 * 1.96 * stdev(others) / len(others) ** 0.5,
        "statistics": fmean(statistics),
        "variety": fmean(task.health.diversity for task in tasks),
        "least_variety": min(task.health.diversity for task in tasks),
        "judged_variety": fmean(varieties),
    }


def ask_judges(pictures: Tensor, name: str, judges: Sequence[Teacher]) -> tuple[float, float]:
    """Share that the judges who know a class recognize, and its pictures' distance in their features; NaN if none."""
    shares, distances = [], []
    for judge in [j for j in judges if name in (j.record.label_names or ())][:JUDGES_A_CLASS]:
        output = judge(pictures)
        shares.append((output.logits.argmax(1) == (judge.record.label_names or ()).index(name)).float().mean().item())
        distances.append(pairwise_distance(output.features, torch.zeros(len(pictures))).item())
    return (fmean(shares), fmean(distances)) if shares else (float("nan"), float("nan"))


def distance(pictures: Tensor, judge: Teacher) -> float:
    """Mean BatchNorm distance of pictures to a judge's statistics."""
    with collected_distances(judge.batchnorm_layers()) as distances:
        judge.logits(pictures)
    return torch.stack(distances).mean().item()


def markdown(rows: dict[str, dict[str, float]]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| variant | own teacher recognizes | loss | others recognize | statistics of others | variety (least task) "
        "| variety to others | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        seconds = f"{row['seconds']:.0f}" if "seconds" in row else ""
        lines.append(
            f"| {name} | {row['accuracy']:.0f} % | {row['loss']:.2f} | {row['others']:.1f} ± {row['interval']:.1f} % "
            f"| {row['statistics']:.3f} | {row['variety']:.3f} ({row['least_variety']:.3f}) "
            f"| {row['judged_variety']:.3f} | {seconds} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
