"""The logits kept with each image of the memory, only those of teachers that were asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from hf_free.data.logit_rows import LogitRows, row_width
from hf_free.errors import RunError


def row_bytes(sizes: Sequence[int], asked: int | None) -> int:
    """Bytes of the logits of one image.

    Args:
        sizes: Number of columns of each block of the layout.
        asked: Number of blocks that are kept with an image; None keeps all.
    """
    if asked is None or asked >= len(sizes):
        return 2 * sum(sizes)
    return 2 * row_width(sizes, asked) + 4 * asked


class LogitTable:
    """Logits in fp16 by the place of their image, with the teachers that they came from.

    Args:
        sizes: Number of columns of each block of the layout; none keeps nothing.
        asked: Number of blocks that are kept with an image; None, or as many as there are, keeps all, without an
            index.
        device: Where the table lies.
    """

    def __init__(self, sizes: Sequence[int], *, asked: int | None = None, device: torch.device | str = "cpu") -> None:
        self.sizes, self.device = tuple(sizes), torch.device(device)
        self.asked = None if asked is None or asked >= len(self.sizes) else asked
        width = sum(self.sizes) if self.asked is None else row_width(self.sizes, self.asked)
        self.values = torch.empty(0, width, dtype=torch.float16, device=self.device)
        self.blocks = torch.empty(0, self.asked or 0, dtype=torch.int32, device=self.device)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(t.numel() * t.element_size() for t in (self.values, self.blocks))

    def grow(self, room: int) -> None:
        """Make room for so many images; what is there stays."""
        values = torch.zeros(room, self.values.shape[1], dtype=self.values.dtype, device=self.device)
        blocks = torch.zeros(room, self.blocks.shape[1], dtype=self.blocks.dtype, device=self.device)
        values[: len(self.values)], blocks[: len(self.blocks)] = self.values, self.blocks
        self.values, self.blocks = values, blocks

    def write(self, places: Tensor, rows: LogitRows | None) -> None:
        """Keep rows at these places (N,); None: nobody was asked."""
        if rows is None:
            self.values[places] = torch.nan
            self.blocks[places] = -1
        elif self.asked is None:  # a table that an earlier version began keeps all columns
            self.values[places] = rows.dense().to(self.device, torch.float16)
        else:
            if rows.blocks is None or rows.blocks.shape[1] != self.asked:
                held = "all" if rows.blocks is None else str(rows.blocks.shape[1])
                raise RunError(
                    f"logits of {held} teachers per image, in a memory of {self.asked}",
                    allowed="one memory.teachers_per_image while a run goes on",
                    action=f"--set memory.teachers_per_image={self.asked}, or a new run",
                )
            self.values[places] = rows.values.to(self.device, torch.float16)
            self.blocks[places] = rows.blocks.to(self.device, torch.int32)

    def read(self, which: slice | Tensor) -> LogitRows:
        """The rows at these places, in fp16."""
        return LogitRows(self.values[which], self.sizes, None if self.asked is None else self.blocks[which])

    def tensors(self, held: int) -> dict[str, Tensor]:
        """The first rows as tensors, for a file."""
        index = {} if self.asked is None else {"blocks": self.blocks[:held]}
        return {"answers": self.values[:held], **index}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `tensors` gave, or the full rows that earlier versions wrote.

        Raises:
            RunError: rows of another layout.
        """
        values, blocks = tensors["answers"], tensors.get("blocks")
        asked = None if blocks is None else blocks.shape[1]
        width = sum(self.sizes) if asked is None else row_width(self.sizes, asked)
        if values.shape[1] != width:
            raise RunError(
                f"a memory with {values.shape[1]} logits per image",
                allowed=f"{width}: the teachers of this run, as it was begun",
                action="resume with the version that wrote it, or train a new run",
            )
        self.asked, self.values = asked, values.to(self.device)
        empty = torch.empty(len(values), 0, dtype=torch.int32)
        self.blocks = (empty if blocks is None else blocks).to(self.device)
