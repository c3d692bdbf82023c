"""Canvases: drawn pictures that the meta-generator paints over, each for the class the teacher takes it for anyway.

A generator that starts from a picture of anything must paint over much of it until the teacher sees the class it is
meant for, and what it paints there hides what makes the picture worth asking about. Among the canvases of a task
each class gets those that the teacher finds most like it: the assignment with the greatest sum of log-probabilities
(Kuhn 1955, by scipy). It costs one forward pass per task; what it gains is in docs/experiments.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hf_free.data.procedural.mixture import draw
from hf_free.runtime.device import Precision
from hf_free.runtime.random_streams import GLOBAL, Stream
from hf_free.teachers.teacher import Teacher

AT_ONCE = 1024
"""Most canvases that are assigned at once: the time of an assignment grows with the cube of their number."""

LEAST_LOG_PROBABILITY = -20.0
"""Differences below this count as none, so that rounding errors of a teacher that is sure of itself do not decide."""


def draw_canvases(
    teacher: Teacher, count: int, *, size: int, channels: int, device: torch.device, stream: Stream = GLOBAL
) -> Tensor:
    """Pictures of the teacher's kind and colors -> (count, channels, size, size) in [0, 1]."""
    colors = [(teacher.record.mean, teacher.record.std)]
    return draw(colors, count, size, channels=channels, generator=stream.fresh()).to(device)


@torch.no_grad()
def give_to_classes(
    canvases: Tensor, labels: Tensor, classes: tuple[int, ...], teacher: Teacher, precision: Precision
) -> Tensor:
    """Bring canvases into the order of the labels they suit best; waits for the device, once.

    Args:
        canvases: (N, C, H, W) in [0, 1].
        labels: (N,), positions in `classes`; each class occurs as often as it needs pictures.
        classes: The teacher's classes.
        teacher: Asked once about each canvas.
        precision: How it computes.

    Returns:
        The same canvases (N, C, H, W), the i-th for the i-th label.
    """
    with precision.autocast(canvases.device):
        logits = teacher.logits(precision.layout(canvases))[:, list(classes)]
    likely = logits.float().log_softmax(1).nan_to_num(LEAST_LOG_PROBABILITY).clamp_min(LEAST_LOG_PROBABILITY).cpu()
    parts = zip(likely.split(AT_ONCE), labels.cpu().split(AT_ONCE), strict=True)
    order = [place * AT_ONCE + best_order(*part) for place, part in enumerate(parts)]
    return canvases[torch.cat(order).to(canvases.device)]


def best_order(scores: Tensor, labels: Tensor) -> Tensor:
    """The order (N,) of rows for which the sum over i of `scores[order[i], labels[i]]` is greatest; scores (N, n)."""
    from scipy.optimize import linear_sum_assignment  # slow to import

    _, rows = linear_sum_assignment(scores[:, labels].T.numpy(), maximize=True)
    return torch.from_numpy(rows)
