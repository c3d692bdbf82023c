"""Soft labels: the logits of teachers, and of a learner that is continued, for images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hf_free.data.logit_rows import LogitRows, place_rows, row_width
from hf_free.data.logit_storage import store_logits
from hf_free.data.logits import LogitLayout
from hf_free.errors import VanishedTeacherError
from hf_free.runtime.device import Precision, is_out_of_memory
from hf_free.teachers.pool import TeacherPool

ASKED_AT_ONCE = 512
"""Most images that a teacher is asked about in one pass."""


class LabelSource(Protocol):
    """Answers for some blocks of a layout."""

    @property
    def places(self) -> Sequence[int]:
        """Which blocks, by their place in the layout."""

    def logits(self, images: Tensor, precision: Precision) -> Tensor:
        """Images (N, C, H, W) uint8 -> the blocks' logits (N, sum of their sizes), side by side in that order."""


@dataclass(frozen=True)
class TeacherSource:
    """A teacher of a pool, which loads it when it is asked."""

    pool: TeacherPool
    teacher: int
    """Its number in the pool."""
    places: tuple[int]
    chosen: tuple[int, ...] | None
    """Which of its outputs are wanted; None for all."""

    def logits(self, images: Tensor, precision: Precision) -> Tensor:
        """See `LabelSource`."""
        teacher = self.pool.for_asking(self.teacher, precision)
        seen = precision.layout(images.to(teacher.device).float() / 255)
        with precision.autocast(teacher.device):
            logits = teacher.labels(seen)
        return logits if self.chosen is None else logits[:, list(self.chosen)]


def teacher_sources(pool: TeacherPool, layout: LogitLayout) -> list[TeacherSource]:
    """The teachers of a pool, each for its block of a layout."""
    return [
        TeacherSource(pool, block.teacher, (place,), block.chosen)
        for place, block in enumerate(layout.blocks)
        if block.teacher is not None
    ]


@torch.no_grad()
def label(
    sources: Sequence[LabelSource],
    images: Tensor,
    layout: LogitLayout,
    precision: Precision,
    asked: Tensor | None = None,
    *,
    batch: int = ASKED_AT_ONCE,
    pause: Callable[[], None] = lambda: None,
) -> LogitRows:
    """Show images (N, C, H, W) uint8 to those who are asked about them -> logits in fp16, on the CPU.

    Large ones lose their mean, see `store_logits`; a row of a teacher with a number that is not finite is NaN, and so
    is a block that nobody answers for, such as that of a teacher that cannot be loaded any more. Sources come one
    after the other, so that each teacher of a pool larger than its budget is loaded once per call.

    Args:
        sources: The sources of the logits.
        images: What they are asked about.
        layout: Where whose logits stand.
        precision: How the sources compute.
        asked: (N, K) blocks that each image is labeled with; None for all. See `hf_free.teachers.asking`.
        batch: Images that a source is asked about at once.
        pause: Called before each batch; what it raises ends the asking.
    """
    sizes = tuple(layout.sizes)
    if asked is not None:
        return _label_some(sources, images, sizes, precision, asked, batch, pause)
    rows = torch.full((len(images), layout.width), torch.nan, dtype=torch.float16)
    for source in sources:
        blocks = [layout.blocks[place] for place in source.places]
        logits = _ask_within_memory(source, images, precision, batch, pause)
        if logits is None:
            continue
        for block, part in zip(blocks, logits.split([block.size for block in blocks], 1), strict=True):
            rows[:, block.columns] = store_logits(part)
    return LogitRows(rows, sizes)


def _label_some(
    sources: Sequence[LabelSource],
    images: Tensor,
    sizes: tuple[int, ...],
    precision: Precision,
    asked: Tensor,
    batch: int,
    pause: Callable[[], None],
) -> LogitRows:
    """Each source is shown the images that one of its blocks is asked about."""
    count, per_image = asked.shape
    width = row_width(sizes, per_image)
    rows = torch.full((count, width), torch.nan, dtype=torch.float16)
    counts = place_rows(asked, torch.tensor(sizes), width).counts
    firsts = counts.cumsum(1) - counts + width * torch.arange(count)[:, None]  # in the flattened rows
    # the rows of each block side by side
    order = asked.flatten().argsort(stable=True)
    questions = order.split(torch.bincount(asked.flatten(), minlength=len(sizes)).tolist())
    for source in sources:
        pictures = torch.cat([questions[place] for place in source.places]).div(per_image, rounding_mode="floor")
        pictures = pictures.unique()
        if not len(pictures):
            continue
        logits = _ask_within_memory(source, images[pictures], precision, batch, pause)
        if logits is None:
            continue
        parts = logits.split([sizes[place] for place in source.places], 1)
        for place, part in zip(source.places, parts, strict=True):
            own = questions[place]
            stored = store_logits(part[torch.searchsorted(pictures, own // per_image)])
            where = firsts.flatten()[own][:, None] + torch.arange(sizes[place])
            rows.view(-1)[where] = stored
    return LogitRows(rows, sizes, asked)


def _ask_within_memory(
    source: LabelSource, images: Tensor, precision: Precision, batch: int, pause: Callable[[], None]
) -> Tensor | None:
    """A source's logits in fp32, in batches as large as memory allows; None where not even one image fits, and where
    it has gone."""
    while batch:
        parts = []
        try:
            for part in images.split(batch):
                pause()
                parts.append(source.logits(part, precision).float().cpu())
            return torch.cat(parts)
        except VanishedTeacherError:
            return None
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        batch //= 2
    return None
