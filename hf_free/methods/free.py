"""FREE (Wei et al., CVPR 2024): FIVE inverts the teachers, BELL learns from what was recovered.

Paper: Wei, Hu, Wang, Shen, Yuan, Tao, "FREE: Faster and Better Data-Free Meta-Learning", CVPR 2024,
https://arxiv.org/abs/2405.00984. Code: WalkerWorldPeace/FREE at commit 7767d42.

There are three versions: the best we found, the paper with its code's defects mended, and the code as it is.

Constants are in `hf_free.config.recipes`, each with its source in docs/methods/constants.md. Departures and their
reasons are below and there; each defect of the code is a value of `defects`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hf_free.data.logits import LogitLayout
from hf_free.inversion.five import Five
from hf_free.learner.meta_learner import MetaLearner
from hf_free.metalearning.base import Objective
from hf_free.metalearning.bell import Aligner
from hf_free.metalearning.bilevel import BilevelDistiller
from hf_free.metalearning.distill import Distiller
from hf_free.metalearning.episodes import Episodes
from hf_free.metalearning.episodic import EpisodicObjective
from hf_free.metalearning.regularize import Regularizer
from hf_free.methods.base import Method, MethodSettings
from hf_free.provenance.teacher_record import TeacherRecord
from hf_free.runtime.chains import ONE_CHAIN, Chains
from hf_free.runtime.device import Precision
from hf_free.runtime.random_streams import UNSEEDED, RandomStreams
from hf_free.teachers.label_names import is_placeholder

EPISODIC: dict[str, type[EpisodicObjective]] = {
    "align": Aligner,
    "regularize": Regularizer,
    "episodes": Episodes,
    "bilevel": BilevelDistiller,
}
"""Ways to learn by episodes, by the name that `bell.objective` has for them."""

_PAPER = (
    "Yongxian Wei, Zixuan Hu, Zhenyi Wang, Li Shen, Chun Yuan, Dacheng Tao: "
    "FREE: Faster and Better Data-Free Meta-Learning, CVPR 2024"
)
_URL = "https://arxiv.org/abs/2405.00984"
_NEEDS = "gradients; its BatchNorm statistics are used where it has some"


def make_five(
    settings: MethodSettings,
    device: torch.device,
    precision: Precision,
    streams: RandomStreams = UNSEEDED,
    chains: Chains = ONE_CHAIN,
) -> Five:
    """FIVE with a fresh meta-generator, for pictures of the learner's size."""
    return Five(
        settings.five,
        image_size=settings.learner.image_size,
        channels=settings.learner.channels,
        device=device,
        precision=precision,
        defects=settings.defects,
        streams=streams,
        chains=chains,
    )


def make_bell(
    settings: MethodSettings,
    learner: MetaLearner,
    layout: LogitLayout,
    records: Sequence[TeacherRecord],
    precision: Precision,
    streams: RandomStreams = UNSEEDED,
    chains: Chains = ONE_CHAIN,
) -> Objective:
    """BELL, distillation of all teachers' answers, or a peer's way to learn: as `bell.objective` says."""
    if settings.bell.objective == "distill":
        return Distiller(learner, layout, settings.bell, precision, streams=streams, chains=chains)
    names = {
        (teacher, index): name
        for teacher, record in enumerate(records)
        for index, name in enumerate(record.label_names or ())
        if settings.bell.match_label_names and not is_placeholder(name)
    }
    asked = None if len(names) == sum(record.num_classes for record in records) else layout
    if settings.bell.objective == "episodes":
        asked = None  # PURER's pictures change in each step: asking all teachers anew would be most of a run
    return EPISODIC[settings.bell.objective](
        learner,
        settings.bell,
        precision,
        teachers=len(records),
        class_names=names,
        layout=asked,
        flip=settings.five.flip,
        defects=settings.defects,
        streams=streams,
        chains=chains,
    )


DEFAULT = Method(
    name="default",
    title="FREE as we would train it: teachers are asked about every picture, one network predicts all answers",
    paper=_PAPER,
    url=_URL,
    needs=_NEEDS,
    inverter=make_five,
    objective=make_bell,
    departures=(
        "the learner predicts all teachers' logits in place of aligned steps and replay (bell.objective)",
        "drawn pictures beside recovered ones, canvases, and BatchNorm statistics in the inversion loss",
        "ridge regression on the predicted logits in place of second-order MAML",
    ),
)
PAPER = Method(
    name="paper",
    title="FREE as published, with the constants of its code and that code's defects mended",
    paper=_PAPER,
    url=_URL,
    needs=_NEEDS,
    inverter=make_five,
    objective=make_bell,
    departures=("the defects of the public code are mended; docs/methods/constants.md lists each",),
)
RELEASED = Method(
    name="released",
    title="FREE as its public code is, defects included",
    paper=_PAPER,
    url=_URL,
    needs=_NEEDS,
    inverter=make_five,
    objective=make_bell,
    departures=(
        "teachers of a step are drawn without replacement; each picture is shifted and flipped by itself",
        "the maml head starts from the nearest class means; docs/methods/constants.md says what else differs",
    ),
)
