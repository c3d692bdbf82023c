"""What teachers say of images: their logits, side by side in one row."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hf_free.data.logit_storage import store_logits
from hf_free.data.logits import LogitLayout
from hf_free.runtime.device import Precision, is_out_of_memory
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.teacher import Teacher

ASKED_AT_ONCE = 512
"""Pictures that a teacher is asked about in one pass at most."""


class SoftLabels(LogitLayout):
    """A layout whose columns are filled by asking teachers; see `LogitLayout`."""

    @torch.no_grad()
    def ask(
        self,
        pool: TeacherPool,
        images: Tensor,
        precision: Precision,
        *,
        batch: int = ASKED_AT_ONCE,
        pause: Callable[[], None] = lambda: None,
        is_asked: Callable[[int], bool] = lambda teacher: True,
    ) -> Tensor:
        """Show pictures (N, C, H, W) uint8 to every teacher -> logits (N, width) in fp16, on the CPU.

        Large ones lose their mean, see `store_logits`; a row of a teacher with a number that is not finite is NaN.
        Teachers come one after the other, so that a pool larger than its budget is loaded once a call. `pause` is
        called before each batch; what it raises ends the asking. Teachers that are not asked have NaN.
        """
        sheet = torch.full((len(images), self.width), torch.nan, dtype=torch.float16)
        for index in filter(is_asked, range(len(pool))):
            sheet[:, self.columns(index)] = self._ask_in_memory(pool[index], index, images, precision, batch, pause)
        return sheet

    def _ask_in_memory(
        self,
        teacher: Teacher,
        index: int,
        images: Tensor,
        precision: Precision,
        batch: int,
        pause: Callable[[], None],
    ) -> Tensor | float:
        """`_ask_one` in batches as large as memory allows; NaN, no answer, where not even one picture fits."""
        while batch:
            try:
                return self._ask_one(teacher, index, images, precision, batch, pause)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            batch //= 2
        return torch.nan

    def _ask_one(
        self,
        teacher: Teacher,
        index: int,
        images: Tensor,
        precision: Precision,
        batch: int,
        pause: Callable[[], None],
    ) -> Tensor:
        rows = []
        for part in images.split(batch):
            pause()
            seen = precision.layout(part.to(teacher.device).float() / 255)
            with precision.autocast(teacher.device):
                logits = teacher.logits(seen)
            chosen = self.chosen[index]
            rows.append(logits if chosen is None else logits[:, chosen.to(logits.device)])
        return store_logits(torch.cat(rows).float().cpu())
