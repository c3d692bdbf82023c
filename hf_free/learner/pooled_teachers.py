"""What several teachers say of an image, side by side in one vector, each with the weight it was given."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hf_free.learner.full_precision import in_full_precision
from hf_free.learner.values import MAX_WIDTH, demand, is_list_of, whole
from hf_free.learner.whitening import Whitening

TEMPERATURE = 2.0
"""Temperature of the softmax of each teacher's answers: at 1, a teacher that is asked about unknown classes is too
sure (docs/experiments/few-teachers.md). Where teachers have temperatures of their own, this is the highest."""

MOST_DIRECTIONS = 256
"""Most directions of one teacher's features that are whitened, the strongest first; a quarter of a megabyte for each
256 features."""


RELEVANCE = 4.0
"""Factor of a teacher's relevance in the exponent of its share: 2 and 4 were tried, 4 is better for signs and as good
for letters (docs/experiments/several-domains.md)."""

KIND_RELEVANCE = 16.0
"""The same where it is the mean over all teachers of a kind, which varies less: of 4 to 32 the best for signs, and no
worse for letters and photographs (docs/experiments/few-teachers.md)."""

ENTROPY = 0.3
"""What a lower entropy of a teacher's answers counts beside the length of its features, both in deviations: signs gain
a point, letters and photographs lose nothing; with 0.5 and more, photographs are taken for signs where their teachers
are weak (docs/experiments/few-teachers.md)."""

UNKNOWN = -1
"""The kind of a teacher of which none was found."""

MIN_ALIKE = 4
"""Fewest teachers of a group whose relevance is compared: between two, chance decides."""

TRACE = 1e-3
"""Factor of a picture's relevance in the embedding, which only carries it along."""

Read: TypeAlias = Literal["entropy", "lengths", "temperatures"]
"""What is read of teachers where it was found to help: the entropy of their answers beside their features' length;
that length after further whitening; answers at a temperature of each teacher's own. Older learners lack them."""

OPTIONAL: dict[Read, dict[str, float]] = {
    "entropy": {"usual_entropy": 0.0, "entropy_spread": 1.0},
    "lengths": {"sharpness": 1.0},
    "temperatures": {"temperatures": TEMPERATURE},
}
"""The tensors of each of these, one number per teacher, and what they begin with."""


class PooledTeachers(nn.Module):
    """Teachers' features, centered, whitened and of length 1, beside the square roots of their probabilities.

    The square of a weight is the share of a teacher's part in the inner product of two embeddings. Teachers of one
    group share theirs anew in each episode: how strongly a picture moves a teacher's whitened features, counted
    in deviations of the pictures it was fitted to, tells whether it is of the kind that the teacher knows; where it is
    known which teachers are of one kind, its mean over these does, and the entropy of their answers counts too:
    teachers are surer of pictures that they know. That number stands last in the embedding, one column per teacher;
    `relevance` reads it off the support and takes it out.

    Args:
        feature_sizes: Width of each teacher's features; 0 where they are left out.
        answer_sizes: Number of each teacher's classes; 0 where its answers are left out.
        reads: What is read of teachers besides, see `Read`; each has attributes of its own, else None.

    Attributes:
        center: (sum of feature sizes) mean features of pictures that are not real, which are subtracted.
        whitenings: One per teacher whose features are there.
        feature_weights: (T,) length of each teacher's features.
        answer_weights: (T,) length of each teacher's square roots of probabilities.
        usual: (T,) mean logarithm of the length of a teacher's whitened features.
        spread: (T,) its deviation.
        temperatures: (T,) of the softmax of each teacher's answers; without "temperatures" all have `TEMPERATURE`.
        sharpness: (T,) how much further features are whitened whose length is read, see `Whitening.log_length`; not at
            all without "lengths".
        usual_entropy: (T,) mean entropy of a teacher's answers at its temperature, in nats; with "entropy".
        entropy_spread: (T,) its deviation, likewise.
        groups: (T,) number of each teacher's group: one architecture, several kinds of pictures; else one of its own.
            Where its kind is known, T times one more than the number of that is added, see `set_groups`.
    """

    center: Tensor
    feature_weights: Tensor
    answer_weights: Tensor
    usual: Tensor
    spread: Tensor
    temperatures: Tensor | None
    sharpness: Tensor | None
    usual_entropy: Tensor | None
    entropy_spread: Tensor | None
    groups: Tensor
    whitenings: nn.ModuleList

    def __init__(
        self, feature_sizes: Sequence[int], answer_sizes: Sequence[int], reads: Collection[Read] = ()
    ) -> None:
        super().__init__()
        self.feature_sizes, self.answer_sizes = tuple(feature_sizes), tuple(answer_sizes)
        self.whitenings = nn.ModuleList(
            Whitening(min(size, MOST_DIRECTIONS), size) for size in self.feature_sizes if size
        )
        self.register_buffer("center", torch.zeros(sum(self.feature_sizes)))
        self.register_buffer("feature_weights", torch.ones(len(self.feature_sizes)))
        self.register_buffer("answer_weights", torch.ones(len(self.answer_sizes)))
        self.register_buffer("usual", torch.zeros(len(self.feature_sizes)))
        self.register_buffer("spread", torch.ones(len(self.feature_sizes)))
        count = len(self.feature_sizes)
        for part, buffers in OPTIONAL.items():
            for name, value in buffers.items():
                self.register_buffer(name, torch.full((count,), value) if part in reads else None)
        self.register_buffer("groups", torch.arange(count))

    @property
    def spec(self) -> PooledSpec:
        """How large it is."""
        reads = (
            part for part, buffers in OPTIONAL.items() if all(getattr(self, name) is not None for name in buffers)
        )
        return PooledSpec(self.feature_sizes, self.answer_sizes, frozenset(reads))

    def set_groups(self, groups: Sequence[int], kinds: Sequence[int]) -> None:
        """Note which teachers share their weight anew in each episode, and which of them are of one kind.

        Both stand in one tensor: learners that were saved before kinds were found hold the groups alone.

        Args:
            groups: Number of each teacher's group, from 0 to T - 1.
            kinds: Number of its kind within that, from 0; or `UNKNOWN`.
        """
        count = len(self.feature_sizes)
        self.groups.copy_(
            torch.tensor([group + count * (kind - UNKNOWN) for group, kind in zip(groups, kinds, strict=True)])
        )

    @torch.no_grad()
    def only(self, places: Sequence[int], shares: Sequence[float]) -> PooledTeachers:
        """The same of some of the teachers, in this order.

        Args:
            places: Which ones, from 0.
            shares: How many times its own share each of them has.
        """
        features, answers = ([sizes[place] for place in places] for sizes in (self.feature_sizes, self.answer_sizes))
        made = replace(self.spec, features=tuple(features), answers=tuple(answers)).build()
        index = torch.tensor(list(places))
        centers = self.center.split(list(self.feature_sizes))
        made.center.copy_(torch.cat([centers[place] for place in places]))
        optional = (name for buffers in OPTIONAL.values() for name in buffers)
        for name in ("feature_weights", "answer_weights", "usual", "spread", *optional):
            if (of_all := getattr(self, name)) is not None:
                getattr(made, name).copy_(of_all[index])
        for weights in (made.feature_weights, made.answer_weights):
            weights.mul_(torch.tensor(list(shares)).sqrt())
        groups = (self.groups % len(self.feature_sizes))[index].tolist()
        made.set_groups([groups.index(group) for group in groups], self.kinds[index].tolist())
        fitted = dict(
            zip((place for place, size in enumerate(self.feature_sizes) if size), self.whitenings, strict=True)
        )
        made.whitenings = nn.ModuleList(fitted[place] for place in places if place in fitted)
        return made

    @property
    def kinds(self) -> Tensor:
        """(T,) number of each teacher's kind within its group, or `UNKNOWN`."""
        return self.groups // len(self.feature_sizes) + UNKNOWN

    def each_whitening(self) -> list[Whitening]:
        """The whitening of each teacher whose features are there."""
        return [part for part in self.whitenings if isinstance(part, Whitening)]

    @in_full_precision
    def forward(self, said: Tensor) -> Tensor:
        """(B, all features, then all logits) -> (B, as many, then one per teacher)."""
        features, logits = said.float().split([sum(self.feature_sizes), sum(self.answer_sizes)], 1)
        centered = iter((features - self.center).split([size for size in self.feature_sizes if size], 1))
        answers = iter(logits.split([size for size in self.answer_sizes if size], 1))
        whitenings, parts, moved = iter(self.each_whitening()), [], []
        known = self.kinds != UNKNOWN
        temperatures = [TEMPERATURE] * len(self.answer_sizes) if self.temperatures is None else self.temperatures
        for place, size in enumerate(self.feature_sizes):
            length = said.new_zeros(said.shape[0])  # `len` would be a constant of an exported program
            if size:
                whitening, own = next(whitenings), next(centered)
                whitened = whitening(own)
                parts.append(self.feature_weights[place] * F.normalize(whitened, dim=1, eps=1e-8))
                if self.sharpness is None:
                    length = log_length(whitened)
                else:
                    length = whitening.log_length(own, self.sharpness[place])
            moved.append((length - self.usual[place]) / self.spread[place])
        for place, size in enumerate(self.answer_sizes):
            if size:
                probabilities = F.softmax(next(answers) / temperatures[place], 1)
                parts.append(self.answer_weights[place] * probabilities.sqrt())
                if self.usual_entropy is not None and self.entropy_spread is not None:
                    surer = (self.usual_entropy[place] - entropy(probabilities)) / self.entropy_spread[place]
                    moved[place] = moved[place] + ENTROPY * known[place] * surer
        return torch.cat([*parts, TRACE * torch.stack(moved, 1)], 1)

    @in_full_precision
    def relevance(self, support: Tensor) -> Tensor:
        """Factors (E, D) of an episode's embeddings, which leave its support at a mean squared length of 1.

        Args:
            support: Embeddings (E, S, D) of length 1.
        """
        features = torch.tensor(self.feature_sizes, device=support.device)
        answers = torch.tensor(self.answer_sizes, device=support.device)
        weights = self.feature_weights.square() * (features > 0) + self.answer_weights.square() * (answers > 0)
        moved = support[..., -len(features) :].mean(1) * weights.sum().sqrt() / TRACE  # (E, T)
        shares = torch.ones_like(moved)
        groups, kinds = self.groups % len(features), self.kinds
        for group in groups.unique():
            alike = (groups == group) & (features > 0)
            if int(alike.sum()) >= MIN_ALIKE:
                shares[:, alike] = _shares(moved[:, alike], kinds[alike]) * alike.sum()
        roots = shares.sqrt()
        parts = [roots.repeat_interleave(sizes, dim=1) for sizes in (features, answers)]
        factors = torch.cat([*parts, torch.zeros_like(moved)], 1)
        lengths = (support * factors.unsqueeze(1)).square().sum(2).mean(1, keepdim=True).sqrt()
        return factors / lengths.clamp_min(1e-8)


def _shares(moved: Tensor, kinds: Tensor) -> Tensor:
    """How teachers of a group share their weight (E, T), by how strongly each episode moves them; sums are 1."""
    if bool((kinds == UNKNOWN).any()):
        return (RELEVANCE * moved).softmax(1)
    is_of = (kinds[:, None] == kinds.unique()).to(moved.dtype)  # (T, K)
    means = moved @ (is_of / is_of.sum(0))
    return (KIND_RELEVANCE * means @ is_of.T).softmax(1)


def log_length(features: Tensor) -> Tensor:
    """Logarithm of the length of each row (B, D): (B,)."""
    return features.norm(dim=1).clamp_min(1e-8).log()


def entropy(probabilities: Tensor) -> Tensor:
    """Entropy of each row of probabilities (B, C), in nats: (B,)."""
    return -(probabilities * probabilities.clamp_min(1e-30).log()).sum(1)


@dataclass(frozen=True)
class PooledSpec:
    """How large pooled teachers' part of an embedding is: read from config.json, and written there.

    Attributes:
        features: Width of each teacher's features.
        answers: Number of each teacher's answers.
        reads: What is read of teachers besides.
    """

    features: tuple[int, ...]
    answers: tuple[int, ...]
    reads: frozenset[Read] = frozenset()

    def describe(self) -> dict[str, object]:
        """What config.json says; versions of hf-free that do not know what is read besides refuse it."""
        return {
            "features": list(self.features),
            "answers": list(self.answers),
            **dict.fromkeys(sorted(self.reads), True),
        }

    def build(self) -> PooledTeachers:
        """Pooled teachers of this size, not fitted yet."""
        return PooledTeachers(self.features, self.answers, self.reads)


def read_pooled(described: Any, source: str) -> PooledSpec | None:
    """Check what config.json says of pooled teachers; None where there are none.

    Args:
        described: The value of `pooled`.
        source: The learner's name, for errors.

    Raises:
        LearnerError: not two lists of as many whole numbers.
    """
    if described is None:
        return None
    rule = f"features and answers, one whole number per teacher each, and {', '.join(OPTIONAL)}, true or false"
    keys = {"features", "answers"}
    good = isinstance(described, Mapping) and keys <= described.keys() <= keys | OPTIONAL.keys()
    demand(good, source, "pooled", described, rule)
    sizes = described["features"], described["answers"]
    good = all(is_list_of(part, whole(0, MAX_WIDTH)) for part in sizes) and len(sizes[0]) == len(sizes[1]) > 0
    good = good and all(isinstance(described.get(part, False), bool) for part in OPTIONAL)
    demand(good and 0 < sum(map(sum, sizes)) <= MAX_WIDTH, source, "pooled", described, rule)
    reads = frozenset(part for part in OPTIONAL if described.get(part, False))
    return PooledSpec(tuple(sizes[0]), tuple(sizes[1]), reads)
