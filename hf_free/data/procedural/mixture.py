"""What a program draws for a teacher: leaves and emblems, or strokes where its colors say black on white.

A teacher's configuration holds mean and deviation of the pictures it was trained on. They give the colors, and tell
writing from photographs without a look at either. Nothing that is known of a teacher tells photographs from signs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hf_free.data.procedural.dead_leaves import dead_leaves
from hf_free.data.procedural.emblems import emblems
from hf_free.data.procedural.strokes import strokes
from hf_free.runtime.memory_budget import pictures_at_once

LIKELY_MEAN, LIKELY_STD = (0.02, 0.98), (0.05, 0.45)
"""Ranges of the mean and deviation that pictures in [0, 1] have; 0.5 is the deviation of black and white alone."""

TWO_TONES = 0.5
"""Share of the greatest variance that values of a mean can have, from which on pictures count as two-toned.
Photographs (ImageNet, CIFAR) have 0.2 to 0.3, road signs 0.4, Fashion-MNIST 0.6, Omniglot 0.7, MNIST 0.8."""

EMBLEMS = 1 / 3
"""Share of emblems among the pictures that are drawn beside recovered ones for teachers of anything but writing: worth
a point or two on road signs, and nothing lost on photographs (docs/experiments)."""

Colors = tuple[Sequence[float], Sequence[float]]
"""Mean and deviation per channel."""


def picture_colors(mean: Sequence[float], std: Sequence[float]) -> tuple[list[float], list[float]]:
    """Mean and deviation per channel of a teacher's pictures, as far as what it normalizes with can be that.

    Networks for values of 0 to 255 have a mean of 0 and a deviation of 1/255, many others 0.5 and 0.5: not what their
    pictures look like. A middle gray of common contrast stands in.
    """
    is_likely = all(LIKELY_MEAN[0] <= value <= LIKELY_MEAN[1] for value in mean) and all(
        LIKELY_STD[0] <= value <= LIKELY_STD[1] for value in std
    )
    return (list(mean), list(std)) if is_likely else ([0.5] * len(mean), [0.25] * len(std))


def is_two_toned(mean: Sequence[float], std: Sequence[float]) -> bool:
    """Whether pictures of that mean and deviation are a ground and an ink with little between, as writing is.

    Values in [0, 1] of mean m have a variance of m (1 - m) at most, which those have that are all 0 or 1 (Bhatia &
    Davis, "A better bound on the variance", 2000).
    """
    shares = [deviation**2 / (m * (1 - m)) for m, deviation in zip(mean, std, strict=True)]
    return sum(shares) / len(shares) > TWO_TONES


def draw(
    colors: Sequence[Colors],
    count: int,
    size: int,
    *,
    channels: int,
    generator: torch.Generator,
    emblem_share: float = 0.0,
) -> Tensor:
    """Draw pictures for teachers: strokes for those of writing, leaves for the others, as many as there are of each.

    Many large pictures are drawn in pieces, each of which has the teachers' mean and deviation.

    Args:
        colors: Mean and deviation that each teacher normalizes with, 1 or 3 channels.
        count: Number of pictures.
        size: Height and width in pixels.
        channels: 1 or 3.
        generator: CPU generator.
        emblem_share: Share of those others' pictures that are emblems instead.

    Returns:
        (count, channels, size, size) in [0, 1], those for teachers of writing last.
    """
    likely = [picture_colors(*given) for given in colors] or [([0.5], [0.25])]
    writing = [given for given in likely if is_two_toned(*given)]
    others = [given for given in likely if not is_two_toned(*given)]
    of_strokes = round(count * len(writing) / len(likely))
    of_emblems = round(emblem_share * (count - of_strokes))
    of_leaves = count - of_strokes - of_emblems
    drawn = []
    for draw_kind, group, number in (
        (dead_leaves, others, of_leaves),
        (emblems, others, of_emblems),
        (strokes, writing, of_strokes),
    ):
        if number:
            mean, std = _mean_colors(group)
            for count_now in _pieces(number, pictures_at_once(size)):
                drawn.append(draw_kind(count_now, size, generator=generator, mean=mean, std=std))
    pictures = torch.cat(drawn)
    return pictures if channels == 3 else pictures.mean(1, keepdim=True)


def _pieces(number: int, most: int) -> list[int]:
    """A number as a sum of nearly equal ones of at most `most`."""
    count = -(-number // most)
    return [number // count + (place < number % count) for place in range(count)]


def _mean_colors(group: Sequence[Colors]) -> tuple[Tensor, Tensor]:
    """Mean over the teachers of a group, (3,) each."""
    means, deviations = zip(*group, strict=True)
    return tuple(  # type: ignore[return-value]
        torch.stack([torch.tensor(values).expand(3) for values in listed]).mean(0) for listed in (means, deviations)
    )
