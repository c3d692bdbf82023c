"""Teachers' outer gradients made comparable before they are added, so that one sick teacher cannot drown the others.

A teacher whose BatchNorm variances are lost has losses of 10^10 and gradients to match: added as they are, the
meta-generator follows that teacher alone, and Adam's running mean of squares leaves nothing of the others' gradients
for a thousand steps to come. Gradients within `MAX_RATIO` of the usual are left as they are, to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median_low

from torch import Tensor

from hf_free.runtime.sharding import joint_norm as norm_of_all

MAX_RATIO = 10.0
"""A gradient of more than this many times the median norm is no longer taken as it is. In a pool of 18 trained
networks of six kinds 15 were at 0.2 to 9 times; the three MobileNets, which are hard to invert, at 3 to 58. A Conv-4
that lost the variances of one layer was at 35 to 190, one that lost all at 10^8."""

WINDOW = 64
"""Number of norms of earlier steps that the median also covers: a step may have one teacher, or only sick ones."""


def joint_norm(gradients: Sequence[Tensor]) -> float:
    """The Euclidean norm over all tensors of a gradient; waits for the device. Not finite if any number is not."""
    return norm_of_all(gradients).item()


def comparable_scales(norms: Sequence[float], past: Sequence[float]) -> list[float]:
    """What to multiply each teacher's gradient with before they are added.

    Args:
        norms: Norm of each teacher's gradient in this step.
        past: Finite norms of earlier steps; the last `WINDOW` of them are looked at.

    Returns:
        1 for norms up to `MAX_RATIO` times the median of them all; above that, the factor that brings the gradient to
        the median, so that the teacher counts like the others; 0 for a norm that is not finite. Of an even number the
        median is the lower one: of two teachers, one may be sick. Norms of 0 do not count: such a teacher was asked
        for nothing.
    """
    usable = [norm for norm in [*past[-WINDOW:], *norms] if math.isfinite(norm) and norm > 0]
    usual = median_low(usable) if usable else 0.0
    return [_scale(norm, usual) for norm in norms]


def _scale(norm: float, usual: float) -> float:
    if not math.isfinite(norm):
        return 0.0
    return 1.0 if norm <= MAX_RATIO * usual else usual / norm
