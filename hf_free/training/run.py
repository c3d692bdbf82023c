"""What a run works with, as `hf_free.training.setup` puts it together."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from hf_free.config.tree import FreeConfig
from hf_free.data.logits import LogitLayout
from hf_free.evaluation.datasets import LabeledImages
from hf_free.inversion.base import Inverter
from hf_free.learner.meta_learner import MetaLearner
from hf_free.memory.bank import TaskMemory
from hf_free.memory.filling import Filling
from hf_free.metalearning.base import Objective
from hf_free.metalearning.continual import PreviousLearner
from hf_free.runtime.chains import Chains
from hf_free.runtime.device import Precision
from hf_free.runtime.distributed import Accelerator
from hf_free.runtime.energy import EnergyMeter
from hf_free.runtime.memory_budget import give_back_beyond
from hf_free.runtime.random_streams import RandomStreams
from hf_free.runtime.tracking import Trackers
from hf_free.teachers.pool import TeacherPool
from hf_free.training.budgeting import Budget
from hf_free.training.folder import RunFolder
from hf_free.training.remote_checkpoints import RemoteCheckpoints
from hf_free.training.schedule import CheckpointSchedule, Clock
from hf_free.training.selection import Selector
from hf_free.training.state import RunState
from hf_free.training.warm_up import WarmUp
from hf_free.training.workload import Workload


@dataclass(kw_only=True)
class Gathered:
    """What a run starts from: its teachers are there, its learner is not yet."""

    config: FreeConfig
    """The whole configuration; where a learner is continued, with its settings."""
    device: torch.device
    precision: Precision
    streams: RandomStreams
    chains: Chains
    """The parts of a step's work, and the processes that share them."""
    previous: PreviousLearner | None
    """The learner that is continued, if any."""
    validation: LabeledImages | None
    """The user's validation set, if any."""
    pool: TeacherPool
    state: RunState
    """The run's counts, including steps done while teachers were on their way."""
    warm_up: WarmUp
    """These steps, and the inverter that did them."""

    @property
    def workload(self) -> Workload:
        """The settings that its memory and time depend on."""
        config = self.config
        return Workload(config.five, config.memory, config.bell, config.learner, config.trainer)


@dataclass(kw_only=True)
class Parts(Gathered):
    """The parts of a run before it begins."""

    learner_precision: Precision
    """The learner's, see `hf_free.learner.precision`."""
    layout: LogitLayout
    """Where whose answers stand."""
    learner: MetaLearner
    inverter: Inverter
    objective: Objective


@dataclass(kw_only=True)
class Run(Parts):
    """A run that has begun: its folder is this process's, and its memory is there."""

    folder: RunFolder
    budget: Budget
    memory: TaskMemory
    held_out: TaskMemory
    """Recovered pictures kept aside."""
    filling: Filling
    """How both are filled."""
    selector: Selector
    """Scores the learner, to choose the state that is published."""
    accelerator: Accelerator
    trackers: Trackers
    remote: RemoteCheckpoints | None
    """Where checkpoints go besides the folder, if anywhere."""
    clock: Clock
    checkpoints: CheckpointSchedule
    energy: EnergyMeter = field(default_factory=EnergyMeter)
    going_on_from: int | None = None
    """Step of the checkpoint that this start has gone on from; None once its settings are in the folder."""

    def between_parts(self) -> None:
        """Keep to the forecast memory: on a CPU, hand back what a part of the work has left."""
        if self.device.type == "cpu":
            give_back_beyond(self.budget.forecast.idle_bytes)

    def go_on_from(self, state: RunState) -> None:
        """Count on from what an earlier start of the run had counted."""
        state.chains, state.processes = self.chains.count, self.chains.ranks.count
        self.state, self.energy.before = state, state.energy
        self.going_on_from = state.step
        self.clock = Clock(
            self.config.trainer,
            state.seconds,
            reserve=self.budget.forecast.reserve_seconds,
            recover_share=self.config.five.recover_share,
        )
        self.checkpoints = CheckpointSchedule(self.config.trainer, state.seconds)
