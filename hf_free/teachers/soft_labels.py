"""Soft labels: the logits of teachers, and of a learner that is continued, for images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from hf_free.data.logit_rows import LogitRows, place_rows, row_width
from hf_free.data.logit_storage import store_logits
from hf_free.data.logits import LogitLayout
from hf_free.errors import VanishedTeacherError
from hf_free.runtime.device import Precision, is_out_of_memory
from hf_free.runtime.side_by_side import in_order
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
        pause: Called before each batch, and by the caller's thread before each source where several are asked at
            once; what it raises ends the asking.
    """
    sizes = tuple(layout.sizes)
    if asked is not None:
        return _label_some(sources, images, sizes, precision, asked, batch, pause)
    rows = torch.full((len(images), layout.width), torch.nan, dtype=torch.float16)
    for source, logits in _asked([(source, images) for source in sources], precision, batch, pause):
        blocks = [layout.blocks[place] for place in source.places]
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
    seen = [torch.cat([questions[place] for place in source.places]) for source in sources]
    seen = [own.div(per_image, rounding_mode="floor").unique() for own in seen]
    wanted = [(source, pictures) for source, pictures in zip(sources, seen, strict=True) if len(pictures)]
    given = [(source, partial(images.index_select, 0, pictures)) for source, pictures in wanted]
    for (source, pictures), (_, logits) in zip(wanted, _asked(given, precision, batch, pause), strict=True):
        if logits is None:
            continue
        parts = logits.split([sizes[place] for place in source.places], 1)
        for place, part in zip(source.places, parts, strict=True):
            own = questions[place]
            stored = store_logits(part[torch.searchsorted(pictures, own // per_image)])
            where = firsts.flatten()[own][:, None] + torch.arange(sizes[place])
            rows.view(-1)[where] = stored
    return LogitRows(rows, sizes, asked)


_Question = tuple[LabelSource, Tensor | Callable[[], Tensor]]
"""A source and the images it is asked about, or what gives them."""


def _asked(
    questions: Sequence[_Question], precision: Precision, batch: int, pause: Callable[[], None]
) -> Iterator[tuple[LabelSource, Tensor | None]]:
    """Each source with its logits, in order; see `_ask_within_memory`.

    Several threads ask a teacher each where all of them stay in the memory of a CPU. To share out each operation of a
    small network over the cores takes longer than the operation (docs/experiments/speed.md).
    """
    beside = _may_be_asked_beside([source for source, _ in questions])

    def ask(question: _Question) -> tuple[LabelSource, Tensor | None]:
        source, images = question
        shown = images if isinstance(images, Tensor) else images()
        stop = (lambda: None) if beside else pause
        return source, _ask_within_memory(source, shown, precision, batch, stop)

    def paused() -> Iterator[_Question]:
        for question in questions:
            pause()
            yield question

    return in_order(ask, paused()) if beside else map(ask, questions)


def _may_be_asked_beside(sources: Sequence[LabelSource]) -> bool:
    """Whether each source is another teacher of a pool that is in memory as a whole, on a CPU."""
    teachers = [source for source in sources if isinstance(source, TeacherSource)]
    if len(teachers) < len(sources) or len({one.teacher for one in teachers}) < len(teachers):
        return False
    return all(one.pool.is_asked_beside for one in teachers)


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
