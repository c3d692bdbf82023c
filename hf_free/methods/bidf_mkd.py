"""BiDf-MKD (Hu et al., ICML 2023): meta-learning from black boxes that answer, by zero-order gradients.

Paper: Hu, Shen, Wang, Wu, Yuan, Tao, "Learning to Learn from APIs: Black-Box Data-Free Meta-Learning", ICML 2023,
https://arxiv.org/abs/2305.18413. Code: Egg-Hu/BiDf-MKD at commit 2a08d26, which has no license; only facts are taken
from it.

Each step takes one teacher, recovers a support set and a set of boundary queries from it by its answers alone, learns
from both by bi-level distillation, and replays cross-task episodes from the memory until that stops helping. Its
constants, with their sources, are `bidf-mkd` in `hf_free.config.recipes`; departures from the code and their reasons
are below.

A task takes 2 sets x 200 steps x 101 questions x 150 pictures = 6.06 million queries as published: of an endpoint that
is paid for, take fewer (`five.inner_steps`, `queries.directions`, `five.images_per_class`) and set a `--query-budget`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hf_free.inversion.base import Inverter
from hf_free.inversion.zero_order import ZeroOrderInverter
from hf_free.metalearning.base import Objective
from hf_free.metalearning.bilevel import BilevelDistiller
from hf_free.methods.base import Method, MethodSettings
from hf_free.methods.free import make_bell
from hf_free.provenance.teacher_record import TeacherRecord
from hf_free.runtime.chains import ONE_CHAIN, Chains
from hf_free.runtime.device import Precision
from hf_free.runtime.random_streams import UNSEEDED, RandomStreams


def make_zero_order(
    settings: MethodSettings,
    device: torch.device,
    precision: Precision,
    streams: RandomStreams = UNSEEDED,
    chains: Chains = ONE_CHAIN,
) -> ZeroOrderInverter:
    """Inversion by answers; of each teacher a support and a query set where the objective learns from both."""
    return ZeroOrderInverter(
        settings.five,
        settings.queries,
        image_size=settings.learner.image_size,
        channels=settings.learner.channels,
        device=device,
        precision=precision,
        sets=2 if settings.bell.objective == "bilevel" else 1,
        streams=streams,
        chains=chains,
    )


def let_learner_adapt(inverter: Inverter, objective: Objective, records: Sequence[TeacherRecord]) -> None:
    """Have the query set sought against the learner that has adapted to the support set, as in the public code."""
    if isinstance(inverter, ZeroOrderInverter) and isinstance(objective, BilevelDistiller):
        inverter.adapt = objective.adapted


BIDF_MKD = Method(
    name="bidf-mkd",
    title="BiDf-MKD: black boxes inverted by zero-order gradients, bi-level distillation of their answers",
    paper="Zixuan Hu, Li Shen, Zhenyi Wang, Baoyuan Wu, Chun Yuan, Dacheng Tao: "
    "Learning to Learn from APIs: Black-Box Data-Free Meta-Learning, ICML 2023",
    url="https://arxiv.org/abs/2305.18413",
    needs="its answers alone: probabilities, percentages or logits of all its labels",
    inverter=make_zero_order,
    objective=make_bell,
    connect=let_learner_adapt,
    departures=(
        "steps of 0.005 are taken in pixels of [0, 1], not in normalized ones; a black box behind HTTP sees 8 bits, "
        "so that its directions are signs and its steps whole gray levels",
        "the pictures of the step with the least true loss are kept; the public code compares the surrogate, which is "
        "no loss",
        "divergences are of logarithms; defects=[divergence_of_probabilities] gives kl_div probabilities, as the "
        "public code does",
        "logits are compared centered in the boundary term, which counts from the first step; in the public code from "
        "update 4,000 on; the learner is asked about each variation of a picture too, where the public code keeps its "
        "answer about the picture itself",
        "a new task has an update of its own; in the public code it is one of four in an update",
        "pictures shift over repeated edges, each by itself; the public code pads with zeros, one draw per batch, and "
        "shifts and flips the two sets once more before it learns from them",
        "teachers of a run are drawn at random for each step",
        "the head maml starts from the nearest class means and takes five steps, where the code starts from the "
        "trained head and takes ten",
    ),
)
