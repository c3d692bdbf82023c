"""N-way k-shot episodes drawn from labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hf_free.errors import DatasetError
from hf_free.runtime.given import whole_number

MOST_PLACES = 2**25
"""Pictures of all episodes together, each counted as often as it occurs; their places take 256 MiB."""

_RANDOM_KEYS = 2**24
"""Random numbers drawn at once when sampling, at most (64 MiB)."""


@dataclass
class EpisodeBatch:
    """Episodes as positions in a labeled set.

    Attributes:
        support: (E, n_way, k_shot).
        query: (E, n_way, n_query); never a support picture of the same episode.
    """

    support: Tensor
    query: Tensor

    def __len__(self) -> int:
        return len(self.support)

    @property
    def n_way(self) -> int:
        """Classes per episode."""
        return self.support.shape[1]

    def pictures_used(self) -> Tensor:
        """Positions of the pictures that occur in any episode, sorted, each once."""
        return torch.cat([self.support.flatten(), self.query.flatten()]).unique()

    def among(self, places: Tensor) -> EpisodeBatch:
        """The same episodes as positions in `places`, which are sorted and hold every picture used."""
        return EpisodeBatch(torch.searchsorted(places, self.support), torch.searchsorted(places, self.query))

    def split(self, size: int) -> list[EpisodeBatch]:
        """The episodes in batches of that many, the last one smaller."""
        return [EpisodeBatch(*parts) for parts in zip(self.support.split(size), self.query.split(size), strict=True)]

    def labels(self, kind: str = "support") -> Tensor:
        """Class of each picture in an episode flattened class by class: (n_way * k_shot,) or (n_way * n_query,)."""
        shots = (self.support if kind == "support" else self.query).shape[2]
        return torch.arange(self.n_way).repeat_interleave(shots)


@dataclass(frozen=True)
class EpisodeFlags:
    """What a user writes for the sizes of an episode."""

    n_way: str = "--n-way"
    k_shot: str = "--k-shot"
    n_query: str = "--n-query"
    joint: str = " "

    def text(self, n_way: int | None = None, k_shot: int | None = None, n_query: int | None = None) -> str:
        """The flags of the numbers given."""
        pairs = ((self.n_way, n_way), (self.k_shot, k_shot), (self.n_query, n_query))
        return " ".join(f"{flag}{self.joint}{number}" for flag, number in pairs if number is not None)


def eligible_classes(labels: Tensor, pictures: int) -> Tensor:
    """The classes with at least that many pictures."""
    return (torch.bincount(labels) >= pictures).nonzero().flatten()


def can_do_without(labels: Tensor, places: Sequence[int], *, n_way: int, pictures: int) -> bool:
    """Whether n_way classes still have at least that many pictures each once those at some positions are left out."""
    kept = torch.ones(len(labels), dtype=torch.bool)
    kept[list(places)] = False
    return len(eligible_classes(labels[kept], pictures)) >= n_way


def sample_episodes(
    labels: Tensor,
    *,
    n_way: int,
    k_shot: int,
    n_query: int,
    episodes: int,
    generator: torch.Generator,
    flags: EpisodeFlags = EpisodeFlags(),
) -> EpisodeBatch:
    """Draw episodes: n_way classes without replacement, then k_shot + n_query pictures of each, likewise.

    Args:
        labels: (N,) class of each picture, 0..C-1. Classes with fewer than k_shot + n_query pictures are left out.
        n_way: Classes per episode.
        k_shot: Support pictures per class.
        n_query: Query pictures per class.
        episodes: Number of episodes E.
        generator: CPU generator; the episodes depend on nothing else random.
        flags: What a message tells the user to write.

    Raises:
        DatasetError: numbers that are none, too many episodes, too few classes, or too few pictures in too many of
            them.
    """
    n_way, k_shot, n_query, episodes = (
        whole_number(value, name, least=2 if name == "n_way" else 1, error=DatasetError)
        for name, value in (("n_way", n_way), ("k_shot", k_shot), ("n_query", n_query), ("episodes", episodes))
    )
    needed = k_shot + n_query
    if episodes * n_way * needed > MOST_PLACES:
        raise DatasetError(
            f"{episodes} episodes of {n_way} classes with {needed} pictures each",
            allowed=f"at most {MOST_PLACES // (n_way * needed)} episodes of that size",
            action="take fewer: the interval shrinks with the square root of their number only",
        )
    counts = torch.bincount(labels) if len(labels) else torch.zeros(0, dtype=torch.long)
    classes = eligible_classes(labels, needed) if len(labels) else torch.zeros(0, dtype=torch.long)
    if len(classes) < n_way:
        raise _too_small(counts[counts > 0].tolist(), n_way, k_shot, n_query, flags)
    members, counts = _members(labels, classes)  # (C, M), (C,)
    parts = []
    for count in _split(episodes, max(1, _RANDOM_KEYS // max(n_way * members.shape[1], len(classes)))):
        chosen = torch.rand(count, len(classes), generator=generator).argsort(1)[:, :n_way]  # (E, n_way)
        keys = torch.rand(count, n_way, members.shape[1], generator=generator)
        absent = torch.arange(members.shape[1]) >= counts[chosen].unsqueeze(-1)
        places = keys.masked_fill_(absent, -1).topk(needed, dim=-1).indices  # the largest keys, in random order
        parts.append(members[chosen].gather(2, places))  # (E, n_way, k_shot + n_query)
    pictures = torch.cat(parts)
    return EpisodeBatch(pictures[..., :k_shot].contiguous(), pictures[..., k_shot:].contiguous())


def _too_small(counts: list[int], n_way: int, k_shot: int, n_query: int, flags: EpisodeFlags) -> DatasetError:
    """Why a set fills no episode, with settings that it does fill, if there are any.

    Args:
        counts: Pictures of each class.
        n_way: Classes wanted.
        k_shot: Support pictures per class wanted.
        n_query: Query pictures per class wanted.
        flags: What the user is told to write.
    """
    needed, present = k_shot + n_query, len(counts)
    fitting = sum(count >= needed for count in counts)
    other = "another data set or split"
    if present < n_way:
        plural = "class" if present == 1 else "classes"
        given, allowed = f"{n_way}-way episodes out of {present} {plural}", f"n_way of at most {present}"
    else:
        roomy = sorted(counts)[-n_way]
        given = f"{k_shot} support and {n_query} query pictures per class: only {fitting} of {present} classes have "
        given += f"{needed} pictures"
        allowed = f"k_shot + n_query of at most {roomy} for {n_way}-way episodes"
        other = "a data set with more pictures per class"
        if roomy > k_shot:
            return DatasetError(given, allowed=allowed, action=f"{flags.text(n_query=roomy - k_shot)}, or {other}")
        if roomy > 1:
            return DatasetError(given, allowed=allowed, action=f"{flags.text(None, roomy - 1, 1)}, or {other}")
    if fitting > 1:
        return DatasetError(given, allowed=allowed, action=f"{flags.text(fitting)}, or {other}")
    usable = sorted((count for count in counts if count > 1), reverse=True)
    if len(usable) < 2:
        rule = "at least two classes with two pictures each"
        return DatasetError(given, allowed=rule, action="choose another data set or split")
    ways = min(n_way, len(usable))
    shots = min(k_shot, usable[ways - 1] - 1)
    queries = min(n_query, usable[ways - 1] - shots)
    return DatasetError(given, allowed=allowed, action=f"{flags.text(ways, shots, queries)}, or {other}")


def _members(labels: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Positions of each class's pictures, padded with 0 to (C, M), and their numbers (C,)."""
    counts = torch.bincount(labels)[classes]
    members = torch.zeros(len(classes), int(counts.max()), dtype=torch.long)
    places = labels.argsort(stable=True).split(torch.bincount(labels).tolist())
    for row, label in enumerate(classes.tolist()):
        members[row, : counts[row]] = places[label]
    return members, counts


def _split(total: int, size: int) -> list[int]:
    """Sizes of the pieces of a total: full ones and a rest."""
    return [min(size, total - start) for start in range(0, total, size)]
