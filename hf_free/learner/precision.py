"""A learner's precision: fp32 where the processor computes it wrongly in bf16."""

from __future__ import annotations

import torch

from hf_free.learner.embedder import Embedder
from hf_free.runtime.device import MAX_DEVIATION, Precision

_IMAGES = 4


def fitting_precision(learner: Embedder, precision: Precision) -> Precision:
    """The precision if the learner's answers about noise images are the same as in fp32, else fp32.

    The learner stays as it is, and so do torch's random numbers; see `Precision.deviation` for what may go wrong.
    """
    size = learner.config.image_size
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((_IMAGES, learner.config.channels, size, size), generator=generator).to(learner.device)
    was_training = learner.training
    try:
        found = precision.deviation(learner.eval().raw_answers, images)
    finally:
        learner.train(was_training)
    return precision if found <= MAX_DEVIATION else Precision(None, precision.channels_last)


FP32_NOTE = "the learner is computed in fp32: in {precision} its answers are others"
"""What a plan and a run say of such a learner."""
