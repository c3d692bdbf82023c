"""Measure FIVE against a fresh generator for each teacher and against optimizing pixels, on the same teachers.

    python examples/benchmark inversion --json five.json                  # 50 tasks a method, about an hour
    python examples/benchmark inversion --quick                           # fewer tasks of the slow methods, 5 minutes
    python examples/benchmark inversion --zoo FOLDER --data ID_OR_FOLDER  # other teachers, other pictures

Run it in the repository's folder. It prints seconds a recovered task, with meta-training and without; the few-shot
accuracy of one and the same learner trained on each method's pictures; operations a second against the machine's own
matrix products; memory; the step time against the bare forward and backward pass; and the inversion loss on teachers
that nothing was trained on. Where neither --zoo nor the default zoo is there, small teachers of digits are made first.
Every finished part is kept in --output: stopped and run again, it goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from benchmark import loss_curves, measuring
from benchmark.inversion_report import draw_costs, draw_losses, goals, markdown, mean_of_learners, summarize
from hf_free import MetaLearner
from hf_free.config.sections import BellConfig, LearnerConfig
from hf_free.config.tree import FreeConfig, parse_assignments
from hf_free.data.logit_rows import LogitRows
from hf_free.data.logits import LogitLayout
from hf_free.data.procedural.mixture import draw
from hf_free.demo.digits import CANVAS, NEW_DIGITS, TEACHERS_DIGITS, drawn_digits
from hf_free.demo.small_teachers import ClassifierRecipe, train_classifier
from hf_free.errors import HfFreeError
from hf_free.evaluation.datasets import LabeledImages, load_labeled_images
from hf_free.evaluation.evaluate import EpisodeSettings, evaluate
from hf_free.evaluation.flops import count
from hf_free.inversion.five import Five
from hf_free.inversion.per_teacher_generator import FRESH_STEPS, PerTeacherGenerator
from hf_free.inversion.pixels import PIXEL_STEPS, PixelInverter
from hf_free.inversion.task import RecoveredTask, to_uint8
from hf_free.learner.embedding import Embedding
from hf_free.memory.bank import TaskMemory
from hf_free.metalearning.base import Moment
from hf_free.metalearning.distill import Distiller
from hf_free.runtime.device import Precision, choose_device
from hf_free.runtime.measuring import seconds_of
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.soft_labels import label, teacher_sources
from hf_free.training.folder import RunFolder

ZOO, DATA = Path("../shared/zoo/cifar_fs_conv4"), "../shared/data/cifar_fs"
DIGITS = "digits"
"""Stands for teachers and pictures that are made here."""

DIGIT_TEACHERS = 12
"""How many of them are made."""

METHODS = ("five", "fresh", "pixels")
DRAWN = "drawn"
"""The control beside the methods: what a learner knows of pictures that nothing was recovered for."""

Kind = TypeVar("Kind", bound=Five)
Peer = TypeVar("Peer", PerTeacherGenerator, PixelInverter)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured; every number can be set with --set."""

    tasks: int = 50
    """Tasks recovered with FIVE."""
    fresh_tasks: int = 50
    """Tasks recovered with a fresh generator, on the first teachers of those."""
    pixel_tasks: int = 50
    """Tasks recovered by optimizing pixels, likewise."""
    held_out: int = 10
    """Teachers on which the loss curves are measured; nothing is trained on them."""
    meta_steps: int = 60
    """Outer steps of meta-training."""
    fresh_steps: int = FRESH_STEPS
    pixel_steps: int = PIXEL_STEPS
    curve_steps: int = 200
    """Steps of the fresh generator's loss curve."""
    updates: int = 300
    """Updates of each method's learner."""
    learner_seeds: int = 3
    """Learners a method, each from other first weights."""
    batch_size: int = 256
    episodes: int = 600
    rounds: int = 7
    """Times that a step's speed is measured."""


QUICK = replace(
    Plan(),
    tasks=10,
    fresh_tasks=4,
    pixel_tasks=1,
    held_out=3,
    meta_steps=12,
    curve_steps=100,
    updates=80,
    learner_seeds=1,
    rounds=3,
)


def main() -> None:
    """Measure part by part, then print the table."""
    options = read_options()
    try:
        bench = Benchmark(options)
        results = bench.run()
    except HfFreeError as error:
        sys.exit(f"Error: {error}")
    except KeyboardInterrupt:
        sys.exit("\nStopped. The parts that are finished stay in --output: the same command goes on from there.")
    text = markdown(results)
    bench.folder.write_json(bench.folder.root / "results.json", results)
    bench.folder.write_text(bench.folder.root / "results.md", text + "\n")
    if options.json:
        bench.folder.write_json(options.json, results)
    print(text)
    print(f"\nPictures, parts and this table: {bench.folder.root}")


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, help=f"folder of teachers (default: {ZOO}, else teachers of digits)")
    parser.add_argument("--data", help=f"pictures of new classes (default: {DATA}, for digits other digits)")
    parser.add_argument("--split", default="validation", help="classes to measure on")
    parser.add_argument("--quick", action="store_true", help="fewer tasks: 5 minutes on 2 cores")
    parser.add_argument("--json", type=Path, help="file that the figures are written to")
    parser.add_argument("--output", type=Path, help="folder of the benchmark")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--precision", choices=("auto", "no", "bf16"), default="auto")
    parser.add_argument("--compile", action="store_true", help="torch.compile the generators")
    known = ", ".join(asdict(Plan()))
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help=f"{known}; or five.KEY")
    return parser.parse_args()


class Benchmark:
    """The parts, each measured once and kept on disk.

    Args:
        options: The command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        given = parse_assignments(options.set)
        five = FreeConfig.from_dict({"five": given.pop("five", {})}).five
        for key, value in given.items():
            if key not in asdict(Plan()):
                sys.exit(f"--set {key}: not known; {', '.join(asdict(Plan()))}, or five.KEY")
            if not isinstance(value, int) or value < 1:
                sys.exit(f"--set {key}={value}: a whole number of at least 1 is wanted")
        self.plan, self.five_config = replace(QUICK if options.quick else Plan(), **given), five
        self.device, self.seed, self.is_compiled = choose_device(options.device), options.seed, options.compile
        self.precision = Precision.choose(options.precision, self.device)
        use_digits = options.zoo is None and not ZOO.is_dir()
        zoo = None if use_digits else options.zoo or ZOO
        self.data_name = options.data or (DIGITS if use_digits else DATA)
        self.split = options.split
        name = f"benchmark_five-{zoo.name if zoo else DIGITS}{'-quick' if options.quick else ''}-seed-{options.seed}"
        self.folder = RunFolder(options.output or Path("runs") / name)
        if not options.data and self.data_name != DIGITS and not Path(self.data_name).is_dir():
            sys.exit(f"{self.data_name} is not there: give a data set with --data")
        folders = teacher_folders(zoo, self.plan.tasks + self.plan.held_out, self.folder.root, self.seed)
        self._check_settings(options, str(zoo or DIGITS))
        held_out = min(self.plan.held_out, max(1, len(folders) // 6))
        self.pool = TeacherPool(folders[: len(folders) - held_out], device=self.device)
        self.held_out = TeacherPool(folders[len(folders) - held_out :], device=self.device)
        sizes = [record.input_size for record in (*self.pool.records, *self.held_out.records)]
        self.image_size, self.channels = max(max(size[1:]) for size in sizes), max(size[0] for size in sizes)
        self.answers: dict[str, LogitRows] = {}
        """All teachers' answers to each method's pictures, asked once."""

    def _check_settings(self, options: argparse.Namespace, zoo: str) -> None:
        """Refuse a folder of parts that were measured otherwise."""
        settings = {
            "zoo": zoo,
            **{"data": self.data_name, "split": self.split, "seed": self.seed, "quick": options.quick},
            **{"device": str(self.device), "precision": self.precision.name, "compile": self.is_compiled},
            **{"threads": torch.get_num_threads(), "plan": asdict(self.plan), "five": asdict(self.five_config)},
        }
        path = self.folder.root / "settings.json"
        if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != settings:
            sys.exit(f"{self.folder.root} holds a benchmark with other settings: give another --output")
        self.folder.write_json(path, settings)
        self.settings = settings

    def run(self) -> dict[str, Any]:
        """All parts in turn; what is there already is read."""
        torch.manual_seed(self.seed)
        results: dict[str, Any] = {
            "command": shlex.join([Path(sys.executable).name, *sys.argv]),
            "settings": self.settings,
            "machine": measuring.machine(self.device),
            "teachers": {"trained on": len(self.pool), "held out": len(self.held_out)},
        }
        results["speed"] = self.part("speed", self.measure_speed)
        meta = self.part("meta", self.meta_train)
        tasks = self.recover_tasks()
        self.part("joint", self.train_jointly)
        curves = [self.part(f"curves-{i:02d}", lambda i=i: self.measure_curves(i)) for i in range(len(self.held_out))]
        learners: dict[str, list[dict[str, Any]]] = {method: [] for method in (*METHODS, DRAWN)}
        for seed in range(self.seed, self.seed + self.plan.learner_seeds):
            for method in learners:
                part = self.part(f"learner-{method}-seed-{seed}", lambda m=method, s=seed: self.learn_from(m, s))
                learners[method].append(part)
        results["meta_training"] = meta
        results |= summarize(tasks, meta["seconds"])
        results["drawn"] = mean_of_learners(learners.pop(DRAWN))
        for method, parts in learners.items():
            results["methods"][method]["few_shot"] = mean_of_learners(parts)
        results["curves"] = self.summarize_curves(curves)
        results |= self.peak_and_load()
        results["goals"] = goals(results)
        draw_losses(results, self.folder.root / "losses.png")
        draw_costs(results, self.folder.root / "costs.png")
        return results

    def part(self, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What a part measured, now or before; a part that is measured leaves the machine's load and memory beside."""
        path = self.folder.root / "parts" / f"{name}.json"
        if not path.is_file():
            done = len(list(path.parent.glob("*.json")))
            print(f"measuring {name} ({done + 1} of {self.parts()})", file=sys.stderr, flush=True)
            values = measure() | {"load": measuring.load_average(), "peak": measuring.peak_memory(self.device)}
            self.folder.write_json(path, values)
        return json.loads(path.read_text(encoding="utf-8"))

    def parts(self) -> int:
        """How many parts there are: speed, meta- and joint training, tasks, curves, learners."""
        return 3 + sum(self.counts().values()) + len(self.held_out) + (len(METHODS) + 1) * self.plan.learner_seeds

    def peak_and_load(self) -> dict[str, Any]:
        """The greatest memory that any part saw, by where; the machine's load while it was measured."""
        paths = (self.folder.root / "parts").glob("*.json")
        parts = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
        loads = [part["load"] for part in parts if part["load"] is not None] or [math.nan]
        return {
            "peak_memory": {where: max(part["peak"][where] for part in parts) for where in parts[0]["peak"]},
            "load": {"least": min(loads), "most": max(loads)},
        }

    # ---- the generators

    def new_five(self, kind: type[Kind], *, inner_steps: int | None = None, weights: str | None = None) -> Kind:
        """A FIVE with random weights of the benchmark's seed, or with those a part left behind."""
        torch.manual_seed(self.seed)
        config = self.five_config if inner_steps is None else replace(self.five_config, inner_steps=inner_steps)
        size = {"image_size": self.image_size, "channels": self.channels}
        five = kind(config, **size, device=self.device, precision=self.precision)
        if weights is not None:
            five.generator.load_state_dict(load_file(self.folder.root / "parts" / f"{weights}.safetensors"))
        if self.is_compiled:
            five.compile()
        return five

    def new_inverter(self, kind: type[Peer]) -> Peer:
        """One of FIVE's peers, with the same loss and sizes."""
        torch.manual_seed(self.seed)
        size = {"image_size": self.image_size, "channels": self.channels}
        inverter = kind(self.five_config, **size, device=self.device, precision=self.precision)
        if self.is_compiled:
            inverter.compile()
        return inverter

    def meta_train(self) -> dict[str, Any]:
        """FIVE's outer loop on the training teachers; the tasks recovered on the way are thrown away."""
        five = self.new_five(Five)
        five.adapt(self.pool[0], steps=2)  # not part of the time: the first steps load kernels, or compile
        steps, share = self.plan.meta_steps, min(self.five_config.teachers_per_step, len(self.pool))

        def work() -> None:
            for _ in range(steps):
                five.step(self.draw_teachers(share))

        seconds = seconds_of(work, self.device)
        self.save("meta", five.generator.state_dict())
        return {"seconds": seconds, "steps": steps, "tasks": steps * share}

    def train_jointly(self) -> dict[str, Any]:
        """One generator for all training teachers without an inner loop: as many gradients of as many teachers."""
        five = self.new_five(Five, inner_steps=1)
        steps = self.plan.meta_steps * self.five_config.inner_steps

        def work() -> None:
            for _ in range(steps):
                loss_curves.joint_step(five, self.draw_teachers(self.five_config.teachers_per_step))

        seconds = seconds_of(work, self.device)
        self.save("joint", five.generator.state_dict())
        return {"seconds": seconds, "steps": steps}

    def draw_teachers(self, share: int) -> list[tuple[int, Any]]:
        """Training teachers at random, without replacement."""
        chosen = torch.randperm(len(self.pool))[:share].tolist()
        return [(index, self.pool[index]) for index in chosen]

    def save(self, name: str, tensors: dict[str, torch.Tensor]) -> None:
        """Write tensors beside the parts, whole or not at all."""
        path = self.folder.root / "parts" / f"{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, fresh)
        fresh.replace(path)

    # ---- tasks

    def recover_tasks(self) -> dict[str, list[dict[str, Any]]]:
        """Tasks of each method, teacher by teacher: other load on the machine meets all methods alike."""
        plan = self.plan
        five = self.new_five(Five, weights="meta")
        fresh, pixels = self.new_inverter(PerTeacherGenerator), self.new_inverter(PixelInverter)
        recover = {
            "five": lambda teacher, i: five.recover(teacher, i),
            "fresh": lambda teacher, i: fresh.recover(teacher, i, steps=plan.fresh_steps),
            "pixels": lambda teacher, i: pixels.recover(teacher, i, steps=plan.pixel_steps),
        }
        counts = self.counts()
        for one in (five, fresh, pixels):  # not part of the time: the first steps load kernels, or compile
            one.recover(self.pool[0], steps=2)
        done: dict[str, list[dict[str, Any]]] = {method: [] for method in METHODS}
        for number in range(max(counts.values())):
            for method in METHODS:
                if number < counts[method]:
                    part = f"task-{method}-{number:03d}"
                    done[method].append(self.part(part, lambda: self.one_task(part, number, recover[method])))  # noqa: B023
        return done

    def counts(self) -> dict[str, int]:
        """Tasks of each method."""
        return {"five": self.plan.tasks, "fresh": self.plan.fresh_tasks, "pixels": self.plan.pixel_tasks}

    def one_task(self, part: str, number: int, recover: Callable[[Any, int], RecoveredTask]) -> dict[str, Any]:
        """Recover one task, pictures, answers and health included; the pictures are kept beside the part."""
        index = number % len(self.pool)
        torch.manual_seed(self.seed * 100_003 + number)
        teacher, tasks = self.pool[index], []
        seconds = seconds_of(lambda: tasks.append(recover(teacher, index)), self.device)
        self.save(part, {"images": tasks[0].images})
        return {"seconds": seconds, "images": len(tasks[0].images), **asdict(tasks[0].health)}

    # ---- learners

    def new_distiller(self, seed: int) -> Distiller:
        """The learner that every method's pictures teach, with the same weights at first for the same seed."""
        torch.manual_seed(seed)
        layout = LogitLayout.of([record.num_classes for record in self.pool.records], seed=self.seed)
        learner = MetaLearner(LearnerConfig(image_size=self.image_size, channels=self.channels))
        learner.embedding = Embedding(nn.Linear(learner.backbone_dim, layout.width), layout.sizes)
        learner.to(self.device).backbone.to(memory_format=torch.channels_last)
        config = BellConfig(batch_size=self.plan.batch_size, updates_per_step=1)
        return Distiller(learner, layout, config, self.precision)

    def learn_from(self, method: str, seed: int) -> dict[str, Any]:
        """Train a learner on a method's pictures alone, nothing drawn among them; measure it on new classes.

        `DRAWN` is the control: as many pictures as FIVE's, drawn in the teachers' colors, nothing recovered.
        """
        recovered = "five" if method == DRAWN else method
        tasks = min(self.counts()[recovered], self.plan.fresh_tasks)
        parts = self.folder.root / "parts"
        images = [load_file(parts / f"task-{recovered}-{i:03d}.safetensors")["images"] for i in range(tasks)]
        pictures = torch.cat(images)
        if method == DRAWN:
            generator = torch.Generator().manual_seed(self.seed)
            colors = [(record.mean, record.std) for record in self.pool.records]
            drawn = draw(colors, len(pictures), self.image_size, channels=self.channels, generator=generator)
            pictures = to_uint8(drawn)
        distiller = self.new_distiller(seed)
        memory = TaskMemory(len(pictures), sizes=distiller.layout.sizes, device=self.device)
        if method not in self.answers:  # the same for every learner
            self.answers[method] = label(
                teacher_sources(self.pool, distiller.layout), pictures, distiller.layout, self.precision
            )
        memory.add_pictures(pictures, self.answers[method])
        for update in range(self.plan.updates):  # the rate rises over a tenth, then falls as half a cosine
            done = (update + 1) / self.plan.updates
            rate = min(done / 0.1, 0.5 * (1 + math.cos(math.pi * max(0.0, done - 0.1) / 0.9)))
            distiller.step([], memory, Moment(rate))
        report = evaluate(
            distiller.learner,
            self.data,
            EpisodeSettings(n_way=min(5, len(self.data.class_names)), episodes=self.plan.episodes, seed=self.seed),
            device=self.device,
        )
        rows = [{key: asdict(row)[key] for key in ("k_shot", "accuracy", "interval", "n_way")} for row in report.rows]
        return {"tasks": tasks, "pictures": len(pictures), "rows": rows}

    @cached_property
    def data(self) -> LabeledImages:
        """Real pictures of classes that no teacher knows."""
        if self.data_name == DIGITS:
            return drawn_digits(NEW_DIGITS)
        return load_labeled_images(self.data_name, split=self.split)

    # ---- loss curves

    def measure_curves(self, number: int) -> dict[str, Any]:
        """Losses by steps on a held-out teacher, from the same latents and canvases."""
        k = self.five_config.inner_steps
        longest = max(k, self.plan.curve_steps)
        starts = {"meta": min(longest, 10 * k), "joint": min(longest, 10 * k), "fresh": longest}
        curves = {}
        for start, steps in starts.items():
            five = self.new_five(loss_curves.WatchedFive, weights=None if start == "fresh" else start)
            if start == "fresh":
                torch.manual_seed(self.seed * 100_003 + number)
                five.renew()
            torch.manual_seed(self.seed * 100_003 + number)
            curves[start] = five.loss_curve(self.held_out[number], steps=steps)
        return {"curves": curves}

    def summarize_curves(self, parts: list[dict[str, Any]]) -> dict[str, Any]:
        """Mean curves; the loss after k steps; how many steps each other start needs to reach it."""
        k = self.five_config.inner_steps
        means = {
            start: loss_curves.mean_curve([p["curves"][start] for p in parts]) for start in ("meta", "joint", "fresh")
        }
        reached = {start: curve[k] for start, curve in means.items()}
        better = {
            start: sum(p["curves"]["meta"][k] < p["curves"][start][k] for p in parts) for start in ("joint", "fresh")
        }
        match = {start: loss_curves.steps_to_match(means[start], reached["meta"]) for start in ("joint", "fresh")}
        return {"k": k, "mean": means, "after_k": reached, "steps_to_match": match, "meta_is_lower_on": better}

    # ---- speed

    def measure_speed(self) -> dict[str, Any]:
        """An inner step against the bare passes, in seconds and operations, without and with the learner."""
        peak = measuring.matmul_peak(
            self.device, self.precision.dtype or torch.float32, seconds=0.1 * self.plan.rounds
        )
        five, teacher = self.new_five(Five), self.pool[0]
        _, wanted, _ = five.adapt(teacher, steps=1)
        images = len(wanted.labels)
        cost = count(five.generator, (self.five_config.latent_dim,), batch_size=images) + count(teacher) * images
        measured = {"matmul_peak": peak, "images": images, "alone": self.step_ratio(five, wanted.labels, cost, None)}
        distiller, frozen = self.new_distiller(self.seed), self.new_distiller(self.seed)
        frozen.learner.requires_grad_(False)
        network = nn.Sequential(frozen.learner.backbone, frozen.learner.embedding.projection)
        size = (self.channels, self.image_size, self.image_size)
        cost += count(network, size, input_gradient_only=True) * images
        measured["with learner"] = self.step_ratio(five, wanted.labels, cost, (distiller.student, frozen.student))
        return measured

    def step_ratio(self, five: Any, labels: Any, cost: Any, students: tuple[Any, Any] | None) -> dict[str, Any]:
        """Seconds of an inner step (of 11 steps less one: set-up counts nothing) over those of the bare passes."""
        teacher, more = self.pool[0], 10
        own, bare_own = students or (None, None)
        bare = loss_curves.bare_step(five, labels, teacher, bare_own)
        works = [
            lambda: five.adapt(teacher, 0, own, steps=1),
            lambda: five.adapt(teacher, 0, own, steps=1 + more),
            lambda: [bare() for _ in range(more)],
        ]
        one, several, bare_seconds = measuring.alternating_seconds(works, self.device, rounds=self.plan.rounds)
        step, bare_seconds = (several - one) / more, bare_seconds / more
        return {
            "step_seconds": step,
            "bare_seconds": bare_seconds,
            "ratio": step / bare_seconds,
            "flops": cost.total_flops,
            "flops_per_second": cost.total_flops / step,
            "bare_flops_per_second": cost.total_flops / bare_seconds,
        }


def teacher_folders(zoo: Path | None, wanted: int, output: Path, seed: int) -> list[str]:
    """The first teachers of the zoo, in order of their names; teachers of digits are made where there is no zoo."""
    if zoo is None:
        zoo = output / "teachers"
        make_digit_teachers(zoo, DIGIT_TEACHERS, seed)
    folders = sorted(path.parent.as_posix() for path in zoo.glob("*/model.safetensors"))
    if len(folders) < 3:
        sys.exit(f"{zoo} holds {len(folders)} teacher(s), at least 3 are wanted: give their folder with --zoo")
    return folders[:wanted]


def make_digit_teachers(zoo: Path, number: int, seed: int, *, epochs: int = 5, copies: int = 3) -> None:
    """Train Conv-4 teachers of five of the digits 0 to 6, as the demo does; those that are there already stay."""
    generator = torch.Generator().manual_seed(seed)
    for index in range(number):
        chosen = torch.randperm(len(TEACHERS_DIGITS), generator=generator)[:5].sort().values.tolist()
        folder = zoo / f"{index:03d}"
        if (folder / "model.safetensors").is_file():
            continue
        print(f"training teacher {index + 1} of {number}, digits {chosen}", file=sys.stderr, flush=True)
        data = drawn_digits(chosen, copies=copies, split="train")
        recipe = ClassifierRecipe(
            architecture="conv4_32", epochs=epochs, batch_size=64, lr=4e-3, shift=2, flip=False, seed=seed + index
        )
        train_classifier(recipe, data.at_size(CANVAS), data.labels).save(folder, label_names=data.class_names)


if __name__ == "__main__":
    main()
