"""Logits in 16 bits: what the memory keeps of a teacher's answer, however large its numbers are.

All that learns from stored answers subtracts each teacher's mean first (`CenterPerTeacher`): a shift of all logits
changes no probability. So a shift may be taken away before rounding, where rounding would lose digits by it.
"""

from __future__ import annotations

import torch
from torch import Tensor

_EXACT = 2048.0
"""Up to here float16 holds every whole number (11 bits of precision); beyond, neighbors are 2 and more apart."""

_LARGEST = torch.finfo(torch.float16).max  # 65,504


def store_logits(logits: Tensor) -> Tensor:
    """One teacher's logits (N, n) in float16, row by row.

    A row within 2,048 is rounded and no more. Of a larger one the mean is taken away, and if it still does not fit, it
    is divided so that its largest number is float16's: beyond 65,504 a softmax is one-hot at either size. A row with
    a number that is not finite becomes NaN: no answer is better than a wrong one.
    """
    largest = logits.abs().amax(1, keepdim=True)
    stored = logits.to(torch.float16)
    is_large = ~(largest <= _EXACT).flatten()
    if is_large.any():
        rows = logits[is_large].double()
        rows = rows - rows.mean(1, keepdim=True)
        rows = rows / (rows.abs().amax(1, keepdim=True) / _LARGEST).clamp_min(1)
        stored[is_large] = torch.where(rows.isfinite().all(1, keepdim=True), rows, torch.nan).to(torch.float16)
    return stored
