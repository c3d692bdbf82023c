"""How long it takes to ask teachers about the pictures that a pooled learner and its network begin with.

Small pictures are asked about in a minute or two whatever the teachers. Of large ones it takes from a minute to hours,
so their networks' operations are counted, without loading or computing anything.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from hf_free.evaluation.flops import count
from hf_free.pooling.starting import ASKED
from hf_free.teachers.building import build_network, kind_of
from hf_free.teachers.config_check import TeacherSpec
from hf_free.training.distill import FIRST_PICTURES, HELD_OUT
from hf_free.training.pool import PICTURES

RATES = {"cpu": 1.5e10, "cuda": 5e12, "mps": 1e12}
"""Operations per second: of one thread of a processor (EfficientNet-Lite0 of 224 pixels, whose convolutions are by
channel: 1.9e10 on an AMD EPYC; those of a ResNet are quicker), and, not measured, of a GPU in 32 bits."""


def asking_seconds(specs: Iterable[TeacherSpec], device: torch.device, threads: int) -> float:
    """Seconds that teachers take for the pictures asked about before anything is learned, by their operations.

    Args:
        specs: The teachers' configurations.
        device: Where they compute.
        threads: Of a processor.

    Raises:
        TeacherError: a network that timm cannot build.
    """
    pictures = PICTURES + ASKED + FIRST_PICTURES + HELD_OUT
    counted: dict[object, int] = {}
    total = 0
    for spec in specs:
        kind = kind_of(spec)
        if kind not in counted:
            network = build_network(spec, spec.architecture, "meta")
            counted[kind] = count(network, spec.input_size).forward_flops
        total += counted[kind]
    return pictures * total / (RATES.get(device.type, RATES["cpu"]) * (threads if device.type == "cpu" else 1))
