"""PURER (Hu et al., CVPR 2023): learned pixels of every teacher, and episodes of them that become harder.

Paper: Hu, Shen, Wang, Liu, Yuan, Tao, "Architecture, Dataset and Model-Scale Agnostic Data-free Meta-Learning", CVPR
2023, https://arxiv.org/abs/2303.11183. Code: Egg-Hu/PURER at commit 6d62ccd, which has no license; only facts are
taken from it.

- Inversion: `hf_free.inversion.learned_pixels`, one Adam step on the pixels of all teachers before each update.
- Learning: `hf_free.metalearning.episodes`, second-order MAML on four episodes of these pixels.
- Episode curriculum inversion with its gradient switch: `Episodes.challenge`, which the pixels descend.
- Calibration at test time (ICFIL): `hf_free.learner.calibration`; it is in the paper, but not in the code.

Constants are in `hf_free.config.recipes`, each with its source. Departures from the code and their reasons are below.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hf_free.errors import ConfigError
from hf_free.inversion.base import Inverter
from hf_free.inversion.learned_pixels import LearnedPixels
from hf_free.metalearning.base import Objective
from hf_free.metalearning.episodes import Episodes
from hf_free.methods.base import Method, MethodSettings
from hf_free.methods.free import make_bell
from hf_free.provenance.teacher_record import TeacherRecord
from hf_free.runtime.chains import ONE_CHAIN, Chains
from hf_free.runtime.device import Precision
from hf_free.runtime.random_streams import UNSEEDED, RandomStreams


def make_learned_pixels(
    settings: MethodSettings,
    device: torch.device,
    precision: Precision,
    streams: RandomStreams = UNSEEDED,
    chains: Chains = ONE_CHAIN,
) -> LearnedPixels:
    """Pixels of every teacher, of the learner's size.

    Raises:
        ConfigError: more than one chain: an episode is drawn from the pixels of all teachers at once.
    """
    if chains.count > 1:
        raise ConfigError(
            f"the method purer with {chains.count} chains",
            allowed="one chain: the pixels of all teachers are one process's",
            action="one process, without --chains, or --method purer --inversion pixels",
        )
    return LearnedPixels(
        settings.five,
        image_size=settings.learner.image_size,
        channels=settings.learner.channels,
        device=device,
        precision=precision,
        streams=streams,
    )


def let_learner_challenge(inverter: Inverter, objective: Objective, records: Sequence[TeacherRecord]) -> None:
    """Make pixels for all teachers, and let them descend what the learner wants of them."""
    if isinstance(inverter, LearnedPixels):
        inverter.meet(records)
        if isinstance(objective, Episodes):
            inverter.challenge = objective.challenge


PURER = Method(
    name="purer",
    title="PURER: pixels of every teacher are learned beside the learner, which makes them harder for itself",
    paper="Zixuan Hu, Li Shen, Zhenyi Wang, Tongliang Liu, Chun Yuan, Dacheng Tao: "
    "Architecture, Dataset and Model-Scale Agnostic Data-free Meta-Learning, CVPR 2023",
    url="https://arxiv.org/abs/2303.11183",
    needs="gradients; its BatchNorm statistics are used where it has some",
    inverter=make_learned_pixels,
    objective=make_bell,
    connect=let_learner_challenge,
    departures=(
        "pixels are kept to values that a picture can have, since they are stored as bytes; the code never clips "
        "them, and its data loss stays about a third higher",
        "every teacher weighs alike; in the code the sum of losses is cumulative, and the first of 13 weighs 13 times "
        "the last, which Adam divides out of each teacher's own pixels, except where the curriculum's term is added",
        "the learner starts from random weights, not from the mean of the teachers' (--average), which needs teachers "
        "of one architecture, that of the learner",
        "evaluation is inductive; the last state is published, not that which was best on test episodes",
        "the inversion calibration (ICFIL) is written from the paper, with constants of our own, for neither the code "
        "nor that of PURER-Plus has any of it (the flag efil of main.py changes a log's name); "
        "learner.calibration_steps=0 does without",
        "the head maml starts from the nearest class means, where the code starts from the trained head",
    ),
)
