"""What a published system is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from hf_free.config.recipes import Defects
from hf_free.config.sections import BellConfig, FiveConfig, LearnerConfig, QueriesConfig
from hf_free.config.tree import FreeConfig
from hf_free.data.logits import LogitLayout
from hf_free.inversion.base import Inverter
from hf_free.learner.meta_learner import MetaLearner
from hf_free.metalearning.base import Objective
from hf_free.provenance.run_record import MethodFacts
from hf_free.provenance.teacher_record import TeacherRecord
from hf_free.runtime.chains import Chains
from hf_free.runtime.device import Precision
from hf_free.runtime.random_streams import RandomStreams


@dataclass(frozen=True)
class MethodSettings:
    """What of a configuration the two halves of a method are made from."""

    method: str
    inversion: str | None
    """The way to invert that stands in for the method's own; None for none."""
    five: FiveConfig
    bell: BellConfig
    learner: LearnerConfig
    queries: QueriesConfig
    defects: Defects

    @classmethod
    def of(cls, config: FreeConfig) -> MethodSettings:
        """The settings of a run."""
        return cls(
            config.method,
            config.inversion,
            config.five,
            config.bell,
            config.learner,
            config.queries,
            Defects.named(config.defects),
        )


MakeInverter = Callable[[MethodSettings, torch.device, Precision, RandomStreams, Chains], Inverter]
"""Makes a method's way to invert teachers."""

MakeObjective = Callable[
    [MethodSettings, MetaLearner, LogitLayout, Sequence[TeacherRecord], Precision, RandomStreams, Chains], Objective
]
"""Makes a method's way to learn, for a learner, the layout of its teachers' answers, and their records."""

Connect = Callable[[Inverter, Objective, Sequence[TeacherRecord]], None]
"""Introduces the two halves of a method to each other, and to the teachers of a run."""


def stand_apart(inverter: Inverter, objective: Objective, records: Sequence[TeacherRecord]) -> None:
    """Connect nothing: the inverter sees the learner as its student, and that is all."""


@dataclass(frozen=True)
class Method:
    """A published system. The card, the documentation and `hf-free methods` read its facts."""

    name: str
    """As in `--method`; the recipe of the same name has its constants."""
    title: str
    """What it is, in a line."""
    paper: str
    """Authors, title, venue and year."""
    url: str
    """Where the paper lies."""
    needs: str
    """What a teacher has to offer."""
    inverter: MakeInverter
    objective: MakeObjective
    departures: tuple[str, ...] = ()
    """How it departs from what its authors released, and why."""
    constants: Mapping[str, object] = field(default_factory=dict)
    """Settings in which it differs from the defaults, as nested mappings; those that are in
    `hf_free.config.recipes` already win."""
    connect: Connect = stand_apart
    """Called once before a run, for halves that need more of each other than the student's answers. Either may be
    another method's."""

    @property
    def facts(self) -> MethodFacts:
        """What a learner's record and card say of it."""
        return MethodFacts(
            name=self.name, title=self.title, paper=self.paper, url=self.url, departures=self.departures
        )
