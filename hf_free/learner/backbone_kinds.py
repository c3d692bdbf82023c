"""Backbones that are not built from a name of timm's: how a learner's folder says which, and who can open them.

A pooled learner's backbone is its teachers, of which a learner knows nothing. So a package above both registers how to
open such a backbone, much as networks are registered with timm; `hf_free` itself does so when it is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hf_free.errors import LearnerError

if TYPE_CHECKING:  # `hf_free` registers at its import, which does not wait for torch
    import torch

    from hf_free.learner.pooled_backbone import PooledBackbone
    from hf_free.provenance.recorded_teacher import RecordedTeacher


@dataclass(frozen=True)
class Access:
    """How to get at other people's files when a learner is opened.

    Attributes:
        token: Access token of the Hub; None takes the user's own.
        cache_dir: Folder of the download cache.
        local_files_only: Whether to use the cache alone.
        device: Where the backbone computes.
        is_strange: Whether the learner's folder came from a Hub, so that it may not name folders of this computer.
    """

    token: str | None = None
    cache_dir: str | Path | None = None
    local_files_only: bool = False
    device: str | torch.device = "cpu"
    is_strange: bool = False


@dataclass(frozen=True)
class PooledParts:
    """What a learner's folder says of a pooled backbone; nothing of it is fetched yet.

    Attributes:
        source: The learner's name, for errors.
        folder: Its folder.
        teachers: The entries of its record, one per teacher.
        feature_sizes: See `PooledBackbone`.
        answer_sizes: Likewise.
        channels: Likewise.
        is_included: Whether the teachers' files lie in the folder.
        access: How to get them otherwise.
    """

    source: str
    folder: Path
    teachers: Sequence[RecordedTeacher]
    feature_sizes: tuple[int, ...]
    answer_sizes: tuple[int, ...]
    channels: int
    is_included: bool
    access: Access


Opener = Callable[[PooledParts], "PooledBackbone"]

_openers: list[Opener] = []


def register_opener(opener: Opener) -> None:
    """Say how to open the teachers of a pooled learner; the opener that was registered last is used."""
    _openers[:] = [opener]


def open_pooled(parts: PooledParts) -> PooledBackbone:
    """The backbone of a pooled learner.

    Raises:
        LearnerError: nobody has registered how to open one, or it names teachers that are not available here.
        HubError: files that cannot be fetched.
        TeacherError: files that are not those it was made with.
    """
    if not _openers:
        raise LearnerError(f"{parts.source} is a pooled learner", action="import hf_free before it is loaded")
    return _openers[0](parts)
