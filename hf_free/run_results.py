"""What a run leaves for people: its log, its pictures, its record, and the learner's repository."""

from __future__ import annotations

import platform
import shutil
from collections import Counter
from collections.abc import Sequence, Sized
from typing import Any

import accelerate
import torch
from torch import Tensor

from hf_free import __version__
from hf_free.card import write_card
from hf_free.config import FreeConfig
from hf_free.device import Precision
from hf_free.learner.meta_learner import MetaLearner
from hf_free.memory import ClassKey, TaskMemory
from hf_free.pictures.curves import loss_curves
from hf_free.pictures.grid import recovered_grid
from hf_free.run_folder import RunFolder
from hf_free.run_state import RunState
from hf_free.teacher_views import whose_class
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.teacher import Teacher

FIRST_LINES = 10
"""Steps at a run's beginning that have a line each."""


def is_logged(step: int, config: FreeConfig) -> bool:
    """Whether a step has a line in the log; each of the first few has, for the curves of short runs."""
    return step <= FIRST_LINES or step % config.trainer.log_every == 0


def log_row(state: RunState, memory: Sized, terms: dict[str, float]) -> dict[str, Any]:
    """A line of the log."""
    row = {"step": state.step, "minutes": round(state.seconds / 60, 3), "memory": len(memory)}
    return row | {name: round(value, 6) for name, value in terms.items()}


def draw_pictures(run: RunFolder, memory: TaskMemory, pool: TeacherPool) -> None:
    """A grid of the last recovered tasks and the loss curves; drawing never ends a run."""
    run.pictures.mkdir(parents=True, exist_ok=True)
    groups = last_classes(memory, 8)
    if groups:
        keys = [memory.classes[class_id] for class_id, _ in groups]
        names = [whose_class(pool.records[key.teacher], key.teacher, key.index) for key in keys]
        places = [places[-10:] for _, places in groups]
        confidence = [
            _confidence(pool[memory.classes[class_id].teacher], memory.classes[class_id].index, memory.images[at])
            for (class_id, _), at in zip(groups, places, strict=True)
        ]
        labels = torch.arange(len(groups)).repeat_interleave(torch.tensor([len(p) for p in places]))
        recovered_grid(
            memory.images[torch.cat(places)].cpu(),
            labels,
            class_names=names,
            confidence=torch.cat(confidence),
            path=run.pictures / "recovered.png",
            title=f"Recovered by FIVE: the last pictures of {len(groups)} classes, of {_teachers(keys)}",
        )
    rows = run.read_log()
    if len(rows) > 1:
        loss_curves(rows, run.pictures / "losses.png")


def last_classes(memory: TaskMemory, count: int) -> list[tuple[int, Tensor]]:
    """The last classes with their pictures' places, so that as many teachers as can be have as many each as can be."""
    groups = list(memory.pictures_by_class(1).items())
    nth, seen = {}, Counter[int]()
    for class_id, _ in reversed(groups):
        teacher = memory.classes[class_id].teacher
        nth[class_id], seen[teacher] = seen[teacher], seen[teacher] + 1
    by_turn = sorted(groups, key=lambda group: nth[group[0]])  # each teacher's last class, then the one before it
    shown = {class_id for class_id, _ in by_turn[:count]}
    return [group for group in groups if group[0] in shown]


def _teachers(keys: Sequence[ClassKey]) -> str:
    count = len({key.teacher for key in keys})
    return "one teacher" if count == 1 else f"{count} teachers"


@torch.no_grad()
def _confidence(teacher: Teacher, index: int, images: Tensor) -> Tensor:
    """The teacher's probability of its class for pictures (N, C, H, W) uint8 -> (N,), on the CPU."""
    return teacher.logits(images.to(teacher.device).float() / 255).softmax(1)[:, index].float().cpu()


def run_record(
    config: FreeConfig,
    known: dict[str, Any],
    state: RunState,
    device: torch.device,
    precision: Precision,
    chosen: str,
    *,
    learner_precision: Precision | None = None,
) -> dict[str, Any]:
    """The learner's provenance: what goes into the `hf_free` block of config.json and into the card.

    Args:
        config: The run's configuration.
        known: Records of the teachers, see `hf_free.learner.elder.known_teachers`.
        state: What the run counted.
        device: Where it ran.
        precision: Autocast type.
        chosen: What the published state was chosen on.
        learner_precision: The learner's, see `hf_free.learner.precision`; None: the same.
    """
    import timm

    tasks = max(state.kept_tasks, 1)
    licences = Counter(teacher.get("license") or "none stated" for teacher in known["teachers"])
    return {
        "config": config.to_dict(),
        **known,
        "skipped": _skipped(state, known["teachers"], config),
        "left_out": state.left_out,
        "licenses": dict(licences),
        "data_free": True,  # the learner's own record says otherwise where it started from timm's weights
        "results": [],
        "recovered": {
            "tasks": state.kept_tasks,
            "images": state.pictures,
            "teacher_accuracy": round(state.accuracy_sum / tasks, 4),
            "diversity": round(state.diversity_sum / tasks, 4),
        },
        "training": {
            "minutes": round(state.seconds / 60, 2),
            "steps": state.step,
            "steps_while_downloading": state.early_steps,
            "best_step": state.best_step,
            "chosen_on": chosen,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "threads": torch.get_num_threads(),
            "mixed_precision": precision.name,
            "learner_precision": (learner_precision or precision).name,
        },
        "versions": {
            "hf_free": __version__,
            "torch": torch.__version__,
            "timm": timm.__version__,
            "accelerate": accelerate.__version__,
            "python": platform.python_version(),
        },
    }


def _skipped(state: RunState, teachers: list[dict[str, Any]], config: FreeConfig) -> list[dict[str, Any]]:
    """Teachers left out; `asked` are those whose answers the learner has learned all the same."""
    answers = {teacher["reference"] for teacher in teachers if config.bell.objective == "distill"}
    return [entry | ({"asked": True} if entry["reference"] in answers else {}) for entry in state.skipped]


def write_learner(run: RunFolder, learner: MetaLearner, *, with_generator: bool) -> None:
    """Write `learner/`: weights, config, card and its picture; the generator only if asked for."""
    learner.save_pretrained(run.learner)
    if with_generator:
        shutil.copyfile(run.generator, run.learner / run.generator.name)
    picture = run.pictures / "recovered.png"
    if picture.is_file():
        target = run.learner / "pictures" / "recovered.png"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(picture.read_bytes())
    run.write_json(run.record, learner.hf_free_block())
    write_card(run.learner, learner.hf_free_block())
