"""The demo's pictures: scikit-learn's handwritten digits, drawn in color somewhere on a colored canvas.

The digits (E. Alpaydin, C. Kaynak, UCI repository, CC BY 4.0) are real and come inside scikit-learn, so that nothing
is downloaded. As they are, 8x8 and centered, nearest class means on plain pixels tell unseen digits apart about 75 %
(1-shot) and 90 % (5-shot) of the time, which leaves a learner nothing to show; size, place and colors at random
take that away. Teachers see the digits 0 to 6 only; 7, 8 and 9 are new.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hf_free.errors import DatasetError
from hf_free.evaluation.datasets import LabeledImages

TEACHERS_DIGITS = (0, 1, 2, 3, 4, 5, 6)
"""Digits that teachers may be trained on."""

NEW_DIGITS = (7, 8, 9)
"""Digits that nobody is trained on."""

LICENSE = "cc-by-4.0"
"""License of the data (https://archive.ics.uci.edu/dataset/80)."""

CANVAS = 32
"""Height and width of a picture."""

SMALLEST, LARGEST = 18, 28
"""Side of a drawn digit in pixels, chosen uniformly."""

DARKEST_INK, LIGHTEST_CANVAS = 0.55, 0.45
"""Ink is light and the canvas dark in every channel (values in [0, 1]), so that small teachers learn in seconds."""

DRAWING_SEED = 0
"""The pictures are the same in every run, whatever the run's seed."""

_GREATEST_VALUE = 16.0


def drawn_digits(
    digits: Sequence[int] = NEW_DIGITS, *, copies: int = 1, seed: int = DRAWING_SEED, split: str = "test"
) -> LabeledImages:
    """Draw all handwritten samples of some digits.

    Args:
        digits: Which digits; `labels` are positions among them, `class_names` their names.
        copies: How often each sample is drawn, each time elsewhere and in other colors.
        seed: Seed of sizes, places and colors.
        split: What the data are called in reports.

    Returns:
        uint8 pictures (N, 3, 32, 32); all samples once, then all of them again.

    Raises:
        DatasetError: a digit that does not exist, or one given twice.
    """
    if not set(digits) <= set(range(10)) or len(set(digits)) < len(digits) or not digits:
        raise DatasetError(f"digits {list(digits)}", allowed="different ones from 0 to 9")
    shapes, values = _samples()
    chosen = torch.cat([(values == digit).nonzero().flatten() for digit in digits]).sort().values
    positions = {digit: position for position, digit in enumerate(digits)}
    labels = torch.tensor([positions[digit] for digit in values[chosen].tolist()]).repeat(copies)
    generator = torch.Generator().manual_seed(seed)
    images = draw(shapes[chosen].repeat(copies, 1, 1), generator=generator)
    names = [f"digit {digit}" for digit in digits]
    return LabeledImages(images, labels, names, source="scikit-learn digits, drawn in color", split=split)


def draw(shapes: Tensor, *, generator: torch.Generator) -> Tensor:
    """Draw shapes at random sizes and places in random colors.

    Args:
        shapes: (N, h, w) opacity in [0, 1].
        generator: Where the random numbers come from.

    Returns:
        uint8 (N, 3, 32, 32).
    """
    count = len(shapes)
    side = SMALLEST + (LARGEST - SMALLEST) * torch.rand(count, generator=generator)
    room = 1 - side / CANVAS  # how far the center may lie from the canvas's, in half canvases
    offset = (2 * torch.rand(count, 2, generator=generator) - 1) * room[:, None]
    scale = CANVAS / side
    matrix = torch.zeros(count, 2, 3)  # from canvas to shape: (x - offset) * scale
    matrix[:, 0, 0] = matrix[:, 1, 1] = scale
    matrix[:, :, 2] = -offset * scale[:, None]
    grid = F.affine_grid(matrix, [count, 1, CANVAS, CANVAS], align_corners=False)
    opacity = F.grid_sample(shapes[:, None].float(), grid, mode="bilinear", align_corners=False)
    ink, canvas = contrasting_colors(count, generator=generator)
    picture = opacity * ink[:, :, None, None] + (1 - opacity) * canvas[:, :, None, None]
    return (255 * picture).round_().to(torch.uint8)


def contrasting_colors(count: int, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Colors of light ink and of a dark canvas, each (count, 3) in [0, 1]."""
    ink, canvas = torch.rand(2, count, 3, generator=generator)
    return DARKEST_INK + (1 - DARKEST_INK) * ink, LIGHTEST_CANVAS * canvas


@cache
def _samples() -> tuple[Tensor, Tensor]:
    """Opacity (1797, 8, 8) in [0, 1] and digit (1797,) of every sample."""
    from sklearn.datasets import load_digits

    data = load_digits()
    shapes = torch.from_numpy(np.asarray(data.images, dtype=np.float32)) / _GREATEST_VALUE
    return shapes, torch.from_numpy(np.asarray(data.target, dtype=np.int64))
