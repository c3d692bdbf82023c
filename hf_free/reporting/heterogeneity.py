"""The same pictures as several teachers see them: gathers what the t-SNE figure of a run shows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from hf_free.errors import VanishedTeacherError
from hf_free.memory.bank import TaskMemory
from hf_free.provenance.teacher_record import TeacherRecord
from hf_free.reporting.naming import class_names, teacher_names
from hf_free.reporting.tsne import feature_map
from hf_free.runtime.memory_budget import pictures_at_once
from hf_free.teachers.pool import TeacherPool

MAX_TEACHERS = 6

MAX_CLASSES = 10

PICTURES_A_CLASS = 15
"""Most pictures of a map: six maps of 150 take one to two seconds."""


def draw_heterogeneity(
    memory: TaskMemory, pool: TeacherPool, path: Path, *, without: Collection[int] = (), seed: int = 0
) -> Path | None:
    """Draw the features of the memory's pictures under up to six teachers, of as many architectures as possible.

    Private and gated teachers are named by their number and architecture only, their classes by numbers.

    Args:
        memory: Where the pictures come from.
        pool: The teachers.
        path: File to write (PNG).
        without: Indices of teachers that are left out.
        seed: Seed of t-SNE.

    Returns:
        The path written, or None where the memory holds no class or there is no teacher to ask.
    """
    groups = memory.pictures_by_class(4)
    shown = choose_teachers(pool.records, without)
    classes = choose_classes([memory.classes[class_id].teacher for class_id in groups], shown)
    if not classes or not shown:
        return None
    chosen = [list(groups)[position] for position in classes]
    places = [groups[class_id][-PICTURES_A_CLASS:] for class_id in chosen]
    labels = torch.arange(len(chosen)).repeat_interleave(torch.tensor([len(p) for p in places]))
    pictures = memory.images[torch.cat(places)]
    keys = [memory.classes[class_id] for class_id in chosen]
    names, features = teacher_names(pool.records), dict[str, Tensor]()
    for index in shown:
        with suppress(VanishedTeacherError):
            features[names[index]] = _features(pool, index, pictures)
    if not features:
        return None
    return feature_map(
        features,
        labels,
        path,
        class_names=class_names([(pool.records[key.teacher], key.teacher, key.index) for key in keys], names),
        title=f"Recovered pictures of {len(chosen)} of {len(groups)} classes, as each teacher sees them (t-SNE)",
        seed=seed,
    )


def choose_teachers(records: Sequence[TeacherRecord], without: Collection[int] = ()) -> list[int]:
    """Up to six teachers: the first of each architecture, then the next ones; black boxes show no features."""
    usable = [index for index, record in enumerate(records) if index not in without and not record.answers_only]
    firsts: dict[str, int] = {}
    for index in usable:
        firsts.setdefault(records[index].architecture, index)
    others = [index for index in usable if index not in firsts.values()]
    return sorted([*firsts.values(), *others][:MAX_TEACHERS])


def choose_classes(owners: Sequence[int], shown: Sequence[int]) -> list[int]:
    """Positions of up to ten classes: one of each shown teacher in turn, then those of the others."""
    of_each = [[position for position, owner in enumerate(owners) if owner == index] for index in shown]
    rounds = max((len(positions) for positions in of_each), default=0)
    in_turn = [positions[turn] for turn in range(rounds) for positions in of_each if turn < len(positions)]
    rest = [position for position, owner in enumerate(owners) if owner not in shown]
    return sorted([*in_turn, *rest][:MAX_CLASSES])


@torch.no_grad()
def _features(pool: TeacherPool, index: int, pictures: Tensor) -> Tensor:
    teacher = pool[index]
    parts = pictures.split(pictures_at_once(max(pictures.shape[-1], *teacher.record.input_size[1:])))
    return torch.cat([teacher.features(part.to(teacher.device).float() / 255).float().cpu() for part in parts])
