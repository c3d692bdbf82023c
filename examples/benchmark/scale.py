"""Seconds of a step and memory of each process, from 4 to 1,000 teachers, in 1 to 4 processes; and beyond, on paper.

    python examples/benchmark scale --output scale.json
    python examples/benchmark scale --from scale.json                        # the table again, from what was measured
    python examples/benchmark scale --from scale.json --beyond 100000 100    # where the time of such a run would go

Measured, for each network and image size up to --measured-up-to, in a process of one thread: the parts of a step
(`hf_free.training.trial`) with two teachers built like the learner, of random weights and five classes; an update of
the learner with the answers of 2 and of 1,000 teachers; loading a teacher from a folder. Times are those that the
process computes, so that other load hardly matters.

Counted from that: larger images by their area, other numbers of teachers and processes as `hf-free train --dry-run
--num-processes N` counts them, with default settings; loading where a process's teachers do not fit into its budget;
what processes send each other, at --bandwidth. Not counted: waiting for the slowest.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.process import in_a_process

if TYPE_CHECKING:
    from torch import nn

    from hf_free.runtime.device import Precision
    from hf_free.teachers.teacher import Teacher

TEACHERS = (4, 16, 64, 256, 1000)
PROCESSES = (1, 2, 4)
SIZES = (32, 84, 224)
NETWORKS = {"conv4_64": "Conv-4", "resnet12_small": "ResNet-12", "resnet50": "ResNet-50"}
CLASSES = 5
WIDE = 1000
"""Teachers whose answers the wide learner predicts."""

LEAST = 4
"""Images of the smallest update that is measured."""

ASKED = (8, 64)
"""Images that a teacher is asked about to be timed."""

LEARNED = (4, 16)
"""Images of a pass that is timed by itself."""

BUDGET = 4 * 2**30
"""Bytes of teachers that a process holds, `hub.teacher_memory`."""


@dataclass(frozen=True)
class Counted:
    """What one step of a run takes in one of its processes."""

    inverting: float
    asking: float
    learning: float
    loading: float
    """Of teachers that do not fit into the budget, and are loaded anew."""
    sending: float
    received_bytes: float
    peak_bytes: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.inverting + self.asking + self.learning + self.loading + self.sending


def main() -> None:
    """Measure, count, print."""
    options = _options()
    if options.job:
        print(json.dumps(measure(json.loads(options.job))))
        return
    cells: list[dict[str, Any]] = json.loads(options.found.read_text(encoding="utf-8")) if options.found else []
    for network in () if options.found else options.networks:
        for size in options.sizes:
            if size <= options.measured_up_to:
                cells.append(in_a_process("benchmark.scale", "--job", {"network": network, "size": size}))
                print(f"measured {network} at {size} pixels", flush=True)
                if options.output:
                    options.output.write_text(json.dumps(cells, indent=1) + "\n", encoding="utf-8")
    for network in options.networks:
        of_network = {cell["size"]: cell for cell in cells if cell["network"] == network}
        for size in options.sizes if of_network else ():
            nearest = max((known for known in of_network if known <= size), default=min(of_network))
            if options.beyond:
                print_beyond(of_network[nearest], size, *options.beyond, options)
            else:
                print_table(of_network[nearest], size, options)


def print_table(cell: dict[str, Any], size: int, options: argparse.Namespace) -> None:
    """Seconds and gigabytes of one network at one size, teachers down, processes across."""
    how = "measured" if cell["size"] == size else f"counted from {cell['size']} pixels"
    print(
        f"\n{NETWORKS.get(cell['network'], cell['network'])}, {size} pixels ({how}): s a step / GB in each process\n"
    )
    heads = [f"{count} process{'' if count == 1 else 'es'}" for count in PROCESSES]
    print(f"| teachers | {' | '.join(heads)} |")
    print("|---|" + "---|" * len(PROCESSES))
    for teachers in TEACHERS:
        found = [counted(cell, size, teachers, count, options.bandwidth) for count in PROCESSES]
        columns = [f"{_short(one.seconds)} / {_short(one.peak_bytes / 1e9)}" for one in found]
        print(f"| {teachers:,} | {' | '.join(columns)} |")


def print_beyond(cell: dict[str, Any], size: int, teachers: int, processes: int, options: argparse.Namespace) -> None:
    """Where the time of a step goes, with devices that are `--speed` times a core of this machine."""
    one = counted(cell, size, teachers, processes, options.bandwidth, speed=options.speed)
    first = cell["load_seconds"] * math.ceil(teachers / processes)
    parts = {name: getattr(one, name) for name in ("inverting", "asking", "learning", "loading", "sending")}
    shown = ", ".join(f"{name} {_short(seconds)} s" for name, seconds in parts.items())
    name = NETWORKS.get(cell["network"], cell["network"])
    print(
        f"{name}, {size} pixels, {teachers:,} teachers, {processes} processes: "
        f"{_short(one.seconds)} s a step ({shown}); "
        f"most: {max(parts, key=lambda part: parts[part])}; {_short(one.received_bytes / 1e9)} GB received and "
        f"{_short(one.peak_bytes / 1e9)} GB held by each; {_short(first)} s to load its teachers first"
    )


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def counted(
    cell: dict[str, Any], size: int, teachers: int, processes: int, bandwidth: float, *, speed: float = 1.0
) -> Counted:
    """A step of a run, from what was measured of two teachers.

    Args:
        cell: What `measure` gave.
        size: Height and width of images, of the learner's and the teachers' alike.
        teachers: Of the run.
        processes: Of the run.
        bandwidth: Bytes that a process receives in a second.
        speed: How many times as fast as a core of this machine a process computes.
    """
    from hf_free import FreeConfig
    from hf_free.memory.logit_table import row_bytes
    from hf_free.training.portions import COPIES, picture_bytes
    from hf_free.training.trial import Load

    config = FreeConfig.from_dict({"learner": {"backbone": cell["network"], "image_size": size}})
    area = (size / cell["size"]) ** 2
    loads = {name: Load(**cell[name]).scaled(area) for name in ("inversion", "answer", "drawing")}
    outputs, update, wide = CLASSES * teachers, Load(**cell["update"]), Load(**cell["wide"])
    step = (outputs - 2 * CLASSES) / (CLASSES * (WIDE - 2))
    update = replace(  # the projection's optimizer, which images make no dearer; measured with the fewest of them
        update.scaled(area),
        fixed_seconds=update.fixed_seconds + step * max(0.0, wide.seconds(LEAST) - update.seconds(LEAST)),
        fixed_bytes=update.fixed_bytes + step * max(0.0, wide.bytes(LEAST) - update.bytes(LEAST)),
    )

    inverted = min(config.five.teachers_per_step, teachers)
    own = math.ceil(inverted / processes)
    recovered = config.five.images_per_class * CLASSES
    asked = inverted * recovered + config.memory.drawn_per_step
    questions = asked * min(teachers, config.memory.teachers_per_image or teachers)
    of_process = math.ceil(teachers / processes)
    called = min(of_process, math.ceil(questions / processes))
    answers = row_bytes([CLASSES] * min(teachers, WIDE), config.memory.teachers_per_image)
    drawn, batch = math.ceil(config.memory.drawn_per_step / processes), math.ceil(config.bell.batch_size / processes)
    asking = loads["drawing"].seconds(drawn)
    asking += called * loads["answer"].fixed_seconds + questions / processes * loads["answer"].image_seconds
    weights = of_process * cell["weight_bytes"]
    reloaded = (called + own) * max(0.0, 1 - BUDGET / weights)
    projection = 4 * outputs * (cell["features"] if size == cell["size"] else features_of(cell["network"], size))
    packed = 4 * cell["parameters"] + projection
    others = processes - 1
    received = others * (config.bell.updates_per_step * packed + 4 * cell["generator"])
    received += others * asked * answers + others / processes * asked * 3 * size**2
    held = (config.memory.max_images + config.memory.held_out_images) * picture_bytes(config.learner, answers)
    activations = (
        loads["inversion"].fixed_bytes
        + recovered * area * max(cell["inversion"]["image_bytes"], cell["kept_inverting"]),
        loads["answer"].bytes(min(asked, math.ceil(questions / called))),
        loads["drawing"].bytes(drawn),
        update.fixed_bytes
        + batch * area * max(cell["update"]["image_bytes"], cell["kept_learning"])
        + (processes + 1) * packed * (processes > 1),
    )
    return Counted(
        inverting=own * loads["inversion"].seconds(recovered) / speed,
        asking=asking / speed,
        learning=config.bell.updates_per_step * update.seconds(batch) / speed,
        loading=reloaded * cell["load_seconds"],
        sending=received / bandwidth,
        received_bytes=received,
        peak_bytes=cell["held_bytes"] + min(BUDGET, weights) + projection + COPIES * held + max(activations),
    )


@cache
def features_of(network: str, size: int) -> int:
    """Width of what a network gives, which of a Conv-4 grows with the images."""
    from hf_free.config.sections import LearnerConfig
    from hf_free.learner.meta_learner import MetaLearner

    return MetaLearner(LearnerConfig(backbone=network, image_size=size)).backbone_dim


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """What the parts of a step take with one network at one size, in this process."""
    import timm
    import torch
    from torch import nn

    import hf_free.backbones.register  # noqa: F401  (our networks' names)
    from hf_free import FreeConfig
    from hf_free.data.logits import LogitLayout
    from hf_free.learner.embedding import Embedding
    from hf_free.learner.meta_learner import MetaLearner
    from hf_free.metalearning.distill import Distiller
    from hf_free.runtime.memory_budget import free_memory, resident_memory
    from hf_free.teachers.loader import load_teacher
    from hf_free.teachers.saving import save_teacher
    from hf_free.training.setup import assemble, gather
    from hf_free.training.trial import measure as measured
    from hf_free.training.trial import try_parts

    torch.set_num_threads(1)
    network, size, cpu = job["network"], job["size"], torch.device("cpu")
    sized = {"img_size": size} if network.startswith("conv4") else {}
    with tempfile.TemporaryDirectory() as root:
        folders = [Path(root) / str(number) for number in range(2)]
        for folder in folders:
            cfg = {"input_size": (3, size, size), "mean": (0.5,) * 3, "std": (0.25,) * 3}
            save_teacher(timm.create_model(network, num_classes=CLASSES, **sized), folder, extra_cfg=cfg)
        load_teacher(str(folders[0]))
        start = time.process_time()
        load_teacher(str(folders[1]))
        load_seconds = time.process_time() - start
        config = FreeConfig.from_dict(
            {
                "models": [str(folder) for folder in folders],
                "learner": {"backbone": network, "image_size": size},
                "trainer": {"device": "cpu", "threads": 1},
            }
        )
        found = gather(config, is_planned=True)
        parts = assemble(found)
        held, room = resident_memory() - parts.pool.loaded_bytes, float(free_memory(cpu))
        start, work = time.process_time(), parts.workload
        trial = try_parts(
            work,
            parts.inverter,
            parts.pool,
            parts.objective,
            parts.precision,
            room=room,
            seconds=job.get("seconds", 15.0),
        )
        trial = trial.slowed((time.process_time() - start) / trial.seconds)  # of the process alone, without other load
    learner = MetaLearner(config.learner)
    width, layout = learner.backbone_dim, LogitLayout.of([CLASSES] * WIDE)
    learner.embedding = Embedding(nn.Linear(width, layout.width), layout.sizes)
    rehearsal = Distiller(learner, layout, config.bell, parts.learner_precision).rehearsal()
    wide = measured(
        rehearsal.update, cpu, least=LEAST, most=rehearsal.most, room=room, seconds=job.get("seconds", 15.0)
    )
    answer = replace(trial.answers[0], **asking_seconds(parts.pool[0], parts.precision, size))
    image, generator = (3, size, size), parts.inverter.modules()["generator"]
    both = [(learner.backbone.train(), image), (parts.pool[0].network, image)]
    # of the smallest update most is the optimizer's, too much for the images' part to be read off two of them
    least, each = trial.update.seconds(LEAST), learning_seconds(learner.backbone, parts.precision, size)
    record = parts.pool.records[0]
    return {
        **job,
        "inversion": asdict(trial.inversions[0]),
        "answer": asdict(answer),
        "drawing": asdict(trial.drawing),
        "update": {**asdict(trial.update), "image_seconds": each, "fixed_seconds": max(0.0, least - LEAST * each)},
        "wide": asdict(wide),
        "kept_learning": kept_bytes(both[:1], parts.precision),
        "kept_inverting": kept_bytes([*both, (generator, (config.five.latent_dim,))], parts.precision),
        "load_seconds": load_seconds,
        "held_bytes": held,
        "weight_bytes": record.weight_bytes,
        "parameters": sum(p.numel() for p in learner.backbone.parameters()),
        "features": width,
        "generator": sum(p.numel() for module in parts.inverter.modules().values() for p in module.parameters()),
        "precision": parts.precision.name,
    }


def asking_seconds(teacher: Teacher, precision: Precision, size: int) -> dict[str, float]:
    """What asking takes beside the images, and for each: a line through the least of three times of two sizes."""
    import torch

    def once(images: torch.Tensor) -> float:
        start = time.process_time()
        with torch.no_grad(), precision.autocast(torch.device("cpu")):
            teacher.labels(precision.layout(images))
        return time.process_time() - start

    few, many = (min(once(images) for _ in range(3)) for images in (torch.rand(n, 3, size, size) for n in ASKED))
    each = max(0.0, (many - few) / (ASKED[1] - ASKED[0]))
    return {"fixed_seconds": max(0.0, few - ASKED[0] * each), "image_seconds": each}


def learning_seconds(network: nn.Module, precision: Precision, size: int) -> float:
    """What each image of an update takes, forward and backward, by the least of two times of two sizes."""
    import torch

    def once(images: torch.Tensor) -> float:
        start = time.process_time()
        with precision.autocast(torch.device("cpu")):
            features = network(precision.layout(images))
        features.float().square().mean().backward()
        return time.process_time() - start

    few, many = (min(once(images) for _ in range(2)) for images in (torch.rand(n, 3, size, size) for n in LEARNED))
    return max(0.0, (many - few) / (LEARNED[1] - LEARNED[0]))


def kept_bytes(networks: list[tuple[nn.Module, tuple[int, ...]]], precision: Precision) -> float:
    """Bytes that networks keep of one input each until the backward pass."""
    import torch

    def kept(count: int) -> int:
        storages: dict[int, int] = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            held.append(tensor)  # else its place is another's
            return tensor

        held: list[torch.Tensor] = []
        for network, shape in networks:
            inputs = torch.rand(count, *shape).requires_grad_()
            saved = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
            with saved, precision.autocast(torch.device("cpu")):
                network(inputs)
        return sum(storages.values())

    return (kept(4) - kept(2)) / 2


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--measured-up-to", type=int, default=84, metavar="PIXELS", help="larger ones are counted")
    parser.add_argument("--bandwidth", type=float, default=1e9, help="bytes a second that a process receives")
    parser.add_argument("--output", type=Path, help="JSON file for what was measured")
    parser.add_argument("--from", dest="found", type=Path, help="such a file: nothing is measured")
    parser.add_argument("--beyond", nargs=2, type=int, metavar=("TEACHERS", "PROCESSES"))
    parser.add_argument("--speed", type=float, default=1.0, help="of a device, in cores of this machine (--beyond)")
    parser.add_argument("--job", help=argparse.SUPPRESS)  # the process that is measured
    return parser.parse_args()


if __name__ == "__main__":
    main()
