"""The memory: recovered tasks and drawn pictures as bytes in a fixed budget, with what each teacher says of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hf_free.data.logit_rows import LogitRows
from hf_free.data.logits import ClassKey
from hf_free.inversion.task import RecoveredTask
from hf_free.memory.logit_table import LogitTable
from hf_free.runtime.random_streams import GLOBAL, Stream

NO_CLASS = -1
"""Class of a picture that was drawn rather than recovered."""

MIN_ROWS = 1024
"""Pictures that there is room for at first; room doubles up to the budget."""


class Sample(NamedTuple):
    """Pictures out of the memory: images (B, C, H, W) uint8, and what teachers say of them, in fp32."""

    images: Tensor
    answers: LogitRows


class TaskMemory:
    """A ring of pictures in uint8; the oldest make room. No files, no host copies of floats.

    Args:
        max_images: Pictures held at most.
        sizes: Number of answers of each block of the layout; none keeps no answers.
        asked: Number of blocks whose answers are kept with each picture; None keeps all.
        device: Where the memory lies.
    """

    def __init__(
        self,
        max_images: int,
        *,
        sizes: Sequence[int] = (),
        asked: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.max_images, self.device = max_images, torch.device(device)
        self.images = torch.empty(0, dtype=torch.uint8, device=self.device)
        self.answers = LogitTable(sizes, asked=asked, device=self.device)
        """What is kept of the teachers' answers."""
        self.class_ids = torch.empty(0, dtype=torch.long, device=self.device)
        self.classes: list[ClassKey] = []
        self._ids: dict[ClassKey, int] = {}  # made anew where `sizes` has changed
        self.seen = 0
        """Number of pictures ever added; counted anew where the budget changed between saving and loading."""

    def __len__(self) -> int:
        return min(self.seen, self.max_images)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.answers.nbytes + sum(t.numel() * t.element_size() for t in (self.images, self.class_ids))

    @property
    def keeps_answers(self) -> bool:
        """Whether teachers' answers are kept."""
        return bool(self.answers.sizes)

    def said(self) -> LogitRows:
        """All answers held, in fp16, in the order of `images`."""
        return self.answers.read(slice(0, len(self)))

    def add_task(self, task: RecoveredTask, answers: LogitRows | None = None) -> None:
        """Keep a recovered task.

        Args:
            task: Its pictures are kept under the classes of its teacher.
            answers: What teachers say of them; None where nobody was asked.
        """
        ids = torch.tensor([self._class_id(ClassKey(task.teacher, index)) for index in task.classes])
        self._add(task.images, ids[task.labels], answers)

    def add_pictures(self, images: Tensor, answers: LogitRows | None = None) -> None:
        """Keep pictures (N, C, H, W) uint8 that belong to no class."""
        self._add(images, torch.full((len(images),), NO_CLASS), answers)

    def sample(self, count: int, stream: Stream = GLOBAL) -> Sample:
        """Draw pictures uniformly, with replacement."""
        chosen = torch.randint(len(self), (count,), device=self.device, generator=stream.on(self.device))
        return Sample(self.images[chosen], self.answers.read(chosen).to(self.device, torch.float32))

    def pictures_by_class(self, least: int) -> dict[int, Tensor]:
        """Positions of the pictures of each class id that has at least that many."""
        held = self.class_ids[: len(self)]
        order = held.argsort(stable=True)
        ids, counts = held[order].unique_consecutive(return_counts=True)
        groups = order.split(counts.tolist())
        pairs = zip(ids.tolist(), groups, strict=True)
        return {label: group for label, group in pairs if label != NO_CLASS and len(group) >= least}

    def recovered(self) -> tuple[Tensor, Tensor]:
        """Positions (N,) of the pictures that were recovered, not drawn, and the teacher (N,) of each, on the CPU."""
        held = self.class_ids[: len(self)].cpu()
        places = (held != NO_CLASS).nonzero().flatten()
        teachers = torch.tensor([key.teacher for key in self.classes], dtype=torch.long)
        return places, teachers[held[places]]

    def save(self, path: Path) -> None:
        """Write the memory as one safetensors file."""
        held = len(self)
        keys = torch.tensor([[key.teacher, key.index] for key in self.classes]).view(-1, 2)
        tensors = {
            "images": self.images[:held],
            **self.answers.tensors(held),
            "class_ids": self.class_ids[:held],
            "classes": keys,
            "seen": torch.tensor(self.seen),
        }
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)

    def load(self, path: Path) -> None:
        """Read what `save` wrote; the budget is this memory's, and under a smaller one the newest pictures stay."""
        tensors = load_file(path, device=str(self.device))
        names = [name for name in ("images", "answers", "blocks", "class_ids") if name in tensors]
        rows = [tensors[name] for name in names]
        self.seen, held = int(tensors["seen"]), len(rows[0])
        is_full = self.seen > held  # then the ring's budget was `held`, and the oldest stands at seen % held
        if held > self.max_images or (is_full and held != self.max_images):
            rows = [rows_of.roll(-(self.seen % held), 0) if is_full else rows_of for rows_of in rows]
            rows = [rows_of[-self.max_images :] for rows_of in rows]
            self.seen = len(rows[0])
        kept: dict[str, Tensor] = dict(zip(names, rows, strict=True))
        self.images, self.class_ids = kept["images"], kept["class_ids"]
        self.answers.load(kept)
        self.classes = [ClassKey(teacher, index) for teacher, index in tensors["classes"].tolist()]
        self._ids = {}

    def _class_id(self, key: ClassKey) -> int:
        if len(self._ids) != len(self.classes):
            self._ids = {known: place for place, known in enumerate(self.classes)}
        if key not in self._ids:
            self._ids[key] = len(self.classes)
            self.classes.append(key)
        return self._ids[key]

    def _add(self, images: Tensor, class_ids: Tensor, answers: LogitRows | None) -> None:
        if len(images) > self.max_images:  # more than the ring holds: the last ones
            newest = slice(-self.max_images, None)
            images, class_ids, answers = (
                images[newest],
                class_ids[newest],
                None if answers is None else answers[newest],
            )
        self._make_room(self.seen + len(images), images.shape[1:])
        places = (self.seen + torch.arange(len(images), device=self.device)) % self.max_images
        self.images[places] = images.to(self.device)
        self.answers.write(places, answers)
        self.class_ids[places] = class_ids.to(self.device)
        self.seen += len(images)

    def _make_room(self, wanted: int, shape: Sequence[int]) -> None:
        held = len(self.images)
        if held >= min(wanted, self.max_images):
            return
        room = min(self.max_images, max(wanted, 2 * held, MIN_ROWS))

        def grown(tensor: Tensor, *tail: int) -> Tensor:
            larger = torch.zeros(room, *tail, dtype=tensor.dtype, device=self.device)
            if held:
                larger[:held] = tensor
            return larger

        self.images = grown(self.images, *shape)
        self.answers.grow(room)
        self.class_ids = grown(self.class_ids)
