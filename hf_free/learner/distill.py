"""The default learner: every teacher is asked about every picture, and one small network learns all the answers.

FREE tells the learner what one teacher says about the five classes of one task. Here a picture recovered from one
teacher, or merely drawn, is shown to all of them; the learner predicts all logits at once from one feature vector
(a linear projection). What the answers agree on is what the teachers' classes share, so the learner's predicted
answers are the embedding that new classes are told apart in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hf_free.device import Precision, is_out_of_memory
from hf_free.learner.answer_storage import store_logits
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.teacher import Teacher

if TYPE_CHECKING:
    from hf_free.learner.meta_learner import MetaLearner

LEAST_SPREAD = 1e-6
"""Sum of squares below which a teacher's answers to a batch are all alike: there is nothing to learn from them."""

ASKED_AT_ONCE = 512
"""Pictures that a teacher is asked about in one pass at most."""

MAX_ANSWERS = 64
"""Outputs of one teacher that are learned at most; a larger head is represented by a random subset of its classes."""


class AnswerSheet:
    """Which outputs of which teacher stand where in a row of answers.

    Args:
        counts: Number of classes of each teacher.
        seed: Seed of the subsets of large heads.
    """

    def __init__(self, counts: Sequence[int], *, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.chosen: list[Tensor | None] = [
            torch.randperm(count, generator=generator)[:MAX_ANSWERS].sort().values if count > MAX_ANSWERS else None
            for count in counts
        ]
        self.sizes = [min(count, MAX_ANSWERS) for count in counts]
        self.starts = [sum(self.sizes[:i]) for i in range(len(counts))]
        self.width = sum(self.sizes)

    def columns(self, teacher: int) -> slice:
        """Where a teacher's answers stand."""
        return slice(self.starts[teacher], self.starts[teacher] + self.sizes[teacher])

    @torch.no_grad()
    def ask(
        self,
        pool: TeacherPool,
        images: Tensor,
        precision: Precision,
        *,
        batch: int = ASKED_AT_ONCE,
        pause: Callable[[], None] = lambda: None,
    ) -> Tensor:
        """Show pictures (N, C, H, W) uint8 to every teacher -> logits (N, width) in fp16, on the CPU.

        Large ones lose their mean, see `store_logits`; a row of a teacher with a number that is not finite is NaN.
        Teachers come one after the other, so that a pool larger than its budget is loaded once a call. `pause` is
        called before each batch; what it raises ends the asking.
        """
        sheet = torch.empty(len(images), self.width, dtype=torch.float16)
        for index in range(len(pool)):
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


class GroupedCentre(nn.Module):
    """Subtracts from each teacher's logits their mean: a shift of all of them changes no probability.

    Args:
        sizes: Number of answers of each teacher.
    """

    groups: Tensor
    sizes: Tensor

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        counts = torch.tensor(sizes)
        self.register_buffer("groups", torch.arange(len(counts)).repeat_interleave(counts), persistent=False)
        self.register_buffer("sizes", counts.float(), persistent=False)

    def forward(self, answers: Tensor) -> Tensor:
        """(B, A) -> (B, A)."""
        sums = answers.new_zeros(len(answers), len(self.sizes)).index_add_(1, self.groups, answers)
        return answers - (sums / self.sizes)[:, self.groups]


def answer_loss(
    predicted: Tensor, answers: Tensor, centre: GroupedCentre, *, spread_of: Tensor | None = None
) -> dict[str, Tensor]:
    """Squared error of predicted logits, each teacher in units of its own answers' spread.

    Matching logits is distillation at high temperature (Hinton et al. 2015, section 2.1; Ba & Caruana 2014); unlike a
    divergence of probabilities it keeps what a confident teacher says of the classes it rules out.

    Args:
        predicted: (B, A).
        answers: (B, A); a row of a teacher that was not asked is NaN and counts nothing, nor does a teacher that
            gives all its classes one and the same logit.
        centre: The teachers' groups.
        spread_of: Answers (N, A) whose spread is the unit; None takes `answers`. With those of a whole batch, the
            losses of its parts add up to that of the batch.

    Returns:
        `answers`: the mean of squared error over mean square, over the teachers that say something; 1 is what
        predicting zero would give.
    """
    known = ~answers.isnan()
    wanted = centre(answers.nan_to_num())
    error = ((centre(predicted.float()) - wanted).square() * known).sum(0)
    spread = (wanted.square() * known).sum(0) if spread_of is None else _spread(spread_of, centre)
    sums = torch.stack([error, spread]).new_zeros(2, len(centre.sizes))
    sums = sums.index_add(1, centre.groups, torch.stack([error, spread]))
    shares = sums[0] / sums[1].clamp_min(LEAST_SPREAD)
    says = sums[1] > LEAST_SPREAD
    return {"answers": torch.where(says, shares, 0).sum() / says.sum().clamp_min(1)}


def _spread(answers: Tensor, centre: GroupedCentre) -> Tensor:
    """Sum of squares of the centred answers (N, A) that are known -> (A,)."""
    return (centre(answers.nan_to_num()).square() * ~answers.isnan()).sum(0)


def silent_teachers(sheet: AnswerSheet, answers: Tensor) -> list[int]:
    """Teachers that answered none of the pictures (N, A): no memory for them, or no finite numbers."""
    unknown = answers.isnan().all(0)
    return [i for i in range(len(sheet.starts)) if bool(unknown[sheet.columns(i)].all())]


def places_without(sheet: AnswerSheet, gone: Sequence[int]) -> Tensor:
    """Where each of a run's teachers stands among those whose answers its learner has; -1 for those that are `gone`.

    The first places of a learner that is continued are its old teachers'.
    """
    starts = [sum(sheet.sizes[:group]) for group in range(len(sheet.sizes))]
    lost = {sheet.starts[teacher] for teacher in gone}
    kept = {start: place for place, start in enumerate(start for start in starts if start not in lost)}
    return torch.tensor([kept.get(start, -1) for start in sheet.starts])


def drop_teachers(learner: MetaLearner, sheet: AnswerSheet, gone: Sequence[int]) -> None:
    """Take away the learner's predictions of teachers that never answered: they are noise it was never taught."""
    starts = {sheet.starts[teacher] for teacher in gone}
    if not starts or learner.projection is None:
        return
    groups = torch.arange(sheet.width).split(sheet.sizes)
    kept = [group for group in groups if int(group[0]) not in starts]
    old, rows = learner.projection, torch.cat(kept)
    learner.projection = nn.Linear(old.in_features, len(rows), device=old.weight.device)
    with torch.no_grad():
        learner.projection.weight.copy_(old.weight[rows])
        learner.projection.bias.copy_(old.bias[rows])
    learner.answer_sizes = tuple(len(group) for group in kept)
