"""Opening a pooled learner: its teachers are loaded again, each at its commit and with the files it was made with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from hf_free.errors import HubError, LearnerError, TeacherError, TeacherReferenceError
from hf_free.hub.cache import is_commit
from hf_free.hub.names import check_repository
from hf_free.hub.snapshot import fetch_snapshot
from hf_free.learner.backbone_kinds import PooledParts
from hf_free.learner.pooled_backbone import PooledBackbone
from hf_free.learner.pooled_files import teacher_folder
from hf_free.provenance.recorded_teacher import RecordedTeacher
from hf_free.provenance.teacher_record import FILES, PIXEL_FILES, TeacherRecord
from hf_free.runtime.memory_budget import SHARE_OF_FREE, free_memory
from hf_free.teachers.listing import resolve_without_hub
from hf_free.teachers.pool import Pinned, TeacherPool
from hf_free.teachers.reference import TeacherReference, is_list_entry

LEAST_BUDGET = 4 * 2**30
"""Bytes of the teachers' weights that are held in memory however little is free."""


def open_teachers(parts: PooledParts) -> PooledBackbone:
    """The teachers of a pooled learner as its backbone, through the same gate as any teacher.

    Args:
        parts: What the learner's folder says of them.

    Raises:
        LearnerError: a teacher that is not named, or that lies in a folder of another computer.
        HubError: files that cannot be fetched, such as those of a private repository without a token.
        TeacherError: files that are not those the learner was made with, or that cannot serve as a teacher.
    """
    with _naming(parts.source):
        return _opened(parts)


@contextmanager
def _naming(learner: str) -> Iterator[None]:
    """Errors of teachers, which nobody has named here, say whose they are."""
    try:
        yield
    except (HubError, TeacherError, TeacherReferenceError) as error:
        given = f"{learner} needs its teachers: {error.given}"
        raise type(error)(given, allowed=error.allowed, action=error.action) from error


def _opened(parts: PooledParts) -> PooledBackbone:
    access = parts.access
    pinned = [_pinned(parts, place, entry) for place, entry in enumerate(parts.teachers)]
    if access.local_files_only:  # files that are in the cache, without asking a Hub
        for one in pinned:
            if not one.reference.is_local:
                location, commit = one.reference.location, one.reference.revision
                fetch_snapshot(
                    location,
                    revision=commit,
                    required=[*FILES, *(name for name in PIXEL_FILES if name in one.record.sha256)],
                    cache_dir=access.cache_dir,
                    local_files_only=True,
                )
    # teachers that do not fit are loaded again for every question, so more may stay than in a run
    budget = max(LEAST_BUDGET, int(SHARE_OF_FREE * free_memory(torch.device(access.device))))
    pool = TeacherPool(
        pinned, budget=budget, device=access.device, token=access.token, cache_dir=access.cache_dir, strict=True
    )
    for reference, reason in pool.skipped:
        raise TeacherError(f"{reference} cannot be used: {reason}")
    included = parts.folder if parts.is_included else None
    return PooledBackbone(pool, parts.feature_sizes, parts.answer_sizes, channels=parts.channels, included=included)


def _pinned(parts: PooledParts, place: int, entry: RecordedTeacher) -> Pinned:
    """Where one teacher comes from, and what it has to be."""
    record = entry.as_loaded()
    if record is None:
        raise LearnerError(
            f"{parts.source}: the record of teacher {place + 1} is incomplete", action="pool the teachers again"
        )
    return Pinned(_reference(parts, place, record), record)


def _reference(parts: PooledParts, place: int, record: TeacherRecord) -> TeacherReference:
    if parts.is_included:
        return TeacherReference(str(parts.folder / teacher_folder(place)), is_local=True, classes=record.classes)
    is_listed = not parts.access.is_strange and is_list_entry(record.reference)
    if record.repo_id is not None and not is_listed:
        name = f"{record.repo_id}@{record.commit}"
        check_repository(name, record.repo_id)
        if record.commit is None or not is_commit(record.commit):
            raise LearnerError(f"{parts.source}: its teacher {name} has no commit", action="pool the teachers again")
        return TeacherReference(record.repo_id, False, record.commit, record.classes)
    if record.is_hidden or parts.access.is_strange:
        where = "is private and not named" if record.is_hidden else "is a folder of the computer it was made on"
        raise LearnerError(
            f"{parts.source}: its teacher {place + 1} {where}",
            allowed="teachers that the Hub has, or files that lie with the learner",
            action="ask its author for a learner with the teachers' weights (hf-free pool --include-weights)",
        )
    references = resolve_without_hub([record.reference])
    if len(references) != 1:
        raise LearnerError(f"{parts.source}: {record.reference} stands for several teachers", allowed="one")
    return references[0] if record.commit is None else replace(references[0], revision=record.commit)
