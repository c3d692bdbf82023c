"""The last recovered images of a run, and its loss curves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from hf_free.data.logits import ClassKey
from hf_free.memory.bank import TaskMemory
from hf_free.provenance.reading import Json
from hf_free.reporting.image_grid import recovered_grid
from hf_free.reporting.loss_curves import loss_curves
from hf_free.reporting.naming import whose_class
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.teacher import Teacher


class HasLog(Protocol):
    """Where a run keeps its figures and its log."""

    pictures: Path

    def read_log(self) -> list[Json]:
        """The log's rows."""


def draw_pictures(run: HasLog, memory: TaskMemory, pool: TeacherPool) -> None:
    """A grid of the last recovered tasks and the loss curves."""
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
    """The last classes with their pictures' places, evenly from as many teachers as possible."""
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
