"""Ways to invert teachers, by the names that `--inversion` has for them. A new one is a file and a line here.

Each replaces the first half of whatever method is chosen; loss, sizes and labels stay that method's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from hf_free.config.recipes import INVERSIONS
from hf_free.inversion.per_teacher_generator import PerTeacherGenerator
from hf_free.inversion.pixels import PixelInverter
from hf_free.methods.base import MakeInverter, MethodSettings
from hf_free.methods.bidf_mkd import make_zero_order
from hf_free.methods.free import make_five
from hf_free.runtime.chains import ONE_CHAIN, Chains
from hf_free.runtime.device import Precision
from hf_free.runtime.random_streams import UNSEEDED, RandomStreams


@dataclass(frozen=True)
class Inversion:
    """A way to invert teachers."""

    name: str
    """As in `--inversion`."""
    title: str
    """What it is, in a line."""
    paper: str
    """Authors, title, venue and year."""
    url: str
    """Where the paper lies."""
    needs: str
    """What a teacher has to offer."""
    make: MakeInverter
    constants: Mapping[str, object] = field(default_factory=dict)
    """Settings that go with it, as nested mappings; those in `hf_free.config.recipes` already win."""


INVERSION_WAYS: dict[str, Inversion] = {}


def register_inversion(way: Inversion) -> None:
    """Register a way to invert under its name, for `--inversion`, `hf-free methods` and the documentation.

    Raises:
        ValueError: the name is taken.
    """
    if way.name in INVERSION_WAYS:
        raise ValueError(f"there is an inversion {way.name!r} already: {INVERSION_WAYS[way.name].title}")
    INVERSION_WAYS[way.name] = way
    INVERSIONS.setdefault(way.name, dict(way.constants))


def make_generator(
    settings: MethodSettings,
    device: torch.device,
    precision: Precision,
    streams: RandomStreams = UNSEEDED,
    chains: Chains = ONE_CHAIN,
) -> PerTeacherGenerator:
    """A fresh generator for each teacher, trained for `five.inner_steps`."""
    return PerTeacherGenerator(
        settings.five,
        image_size=settings.learner.image_size,
        channels=settings.learner.channels,
        device=device,
        precision=precision,
        defects=settings.defects,
        steps=settings.five.inner_steps,
        streams=streams,
        chains=chains,
    )


def make_pixels(
    settings: MethodSettings,
    device: torch.device,
    precision: Precision,
    streams: RandomStreams = UNSEEDED,
    chains: Chains = ONE_CHAIN,
) -> PixelInverter:
    """Pixels from noise for each task, moved for `five.inner_steps` at `five.pixel_lr`."""
    return PixelInverter(
        settings.five,
        image_size=settings.learner.image_size,
        channels=settings.learner.channels,
        device=device,
        precision=precision,
        defects=settings.defects,
        steps=settings.five.inner_steps,
        lr=settings.five.pixel_lr,
        streams=streams,
        chains=chains,
    )


_GRADIENTS = "gradients; its BatchNorm statistics are used where it has some"

register_inversion(
    Inversion(
        name="five",
        title="one generator for all teachers, meta-trained to adapt to each in five steps",
        paper="Wei, Hu, Wang, Shen, Yuan, Tao: FREE: Faster and Better Data-Free Meta-Learning, CVPR 2024",
        url="https://arxiv.org/abs/2405.00984",
        needs=_GRADIENTS,
        make=make_five,
    )
)
register_inversion(
    Inversion(
        name="generator",
        title="a fresh generator for each teacher, 200 steps",
        paper="Hu, Shen, Wang, Wu, Yuan, Tao: Learning to Learn from APIs: Black-Box Data-Free Meta-Learning, "
        "ICML 2023",
        url="https://arxiv.org/abs/2305.18413",
        needs=_GRADIENTS,
        make=make_generator,
    )
)
register_inversion(
    Inversion(
        name="pixels",
        title="the pixels themselves, 1,000 steps from noise",
        paper="Yin, Molchanov, Li, Alvarez, Mallya, Hoiem, Jha, Kautz: Dreaming to Distill: Data-free Knowledge "
        "Transfer via DeepInversion, CVPR 2020",
        url="https://arxiv.org/abs/1912.08795",
        needs=_GRADIENTS,
        make=make_pixels,
    )
)
register_inversion(
    Inversion(
        name="zero-order",
        title="a fresh generator for each teacher, 200 steps along gradients estimated from its answers alone",
        paper="Hu, Shen, Wang, Wu, Yuan, Tao: Learning to Learn from APIs: Black-Box Data-Free Meta-Learning, "
        "ICML 2023",
        url="https://arxiv.org/abs/2305.18413",
        needs="its answers alone: probabilities, percentages or logits of all its labels",
        make=make_zero_order,
    )
)
