"""The last recovered images of a run, and its loss curves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from hf_free.data.logits import ClassKey
from hf_free.errors import VanishedTeacherError
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
    shown = _as_their_teachers_see_them(memory, pool)
    if shown:
        keys, places, confidence = zip(*shown, strict=True)
        names = [whose_class(pool.records[key.teacher], key.teacher, key.index) for key in keys]
        labels = torch.arange(len(shown)).repeat_interleave(torch.tensor([len(p) for p in places]))
        recovered_grid(
            memory.images[torch.cat(places)].cpu(),
            labels,
            class_names=names,
            confidence=torch.cat(confidence),
            path=run.pictures / "recovered.png",
            title=f"Recovered by FIVE: the last pictures of {len(shown)} classes, of {_teachers(keys)}",
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


def _as_their_teachers_see_them(memory: TaskMemory, pool: TeacherPool) -> list[tuple[ClassKey, Tensor, Tensor]]:
    """The last classes with the places of their last pictures, and how sure their teachers are of each; without those
    of teachers that have gone."""
    shown = []
    for class_id, places in last_classes(memory, 8):
        key, last = memory.classes[class_id], places[-10:]
        with suppress(VanishedTeacherError):
            shown.append((key, last, _confidence(pool[key.teacher], key.index, memory.images[last])))
    return shown


def _teachers(keys: Sequence[ClassKey]) -> str:
    count = len({key.teacher for key in keys})
    return "one teacher" if count == 1 else f"{count} teachers"


@torch.no_grad()
def _confidence(teacher: Teacher, index: int, images: Tensor) -> Tensor:
    """The teacher's probability of its class for pictures (N, C, H, W) uint8 -> (N,), on the CPU."""
    return teacher.logits(images.to(teacher.device).float() / 255).softmax(1)[:, index].float().cpu()
