"""What a run's memory and time depend on."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hf_free.config.sections import BellConfig, FiveConfig, LearnerConfig, MemoryConfig, TrainerConfig


@dataclass(frozen=True)
class Workload:
    """The sections of the configuration that say how much a run does; who its teachers are is not among them."""

    five: FiveConfig
    memory: MemoryConfig
    bell: BellConfig
    learner: LearnerConfig
    trainer: TrainerConfig

    @property
    def distills(self) -> bool:
        """Whether the learner predicts the teachers' answers."""
        return self.bell.distills

    @property
    def pass_size(self) -> int:
        """Pictures of a batch that the learner is meant to take at once."""
        return -(-self.bell.batch_size // self.bell.gradient_accumulation_steps)

    @property
    def replays_per_step(self) -> int:
        """Updates of replay in a step, at least; 0 where the learner predicts answers."""
        bell = self.bell
        if bell.distills:
            return 0
        return bell.updates_per_step if bell.objective == "episodes" else bell.replay_patience + 1

    def share_asked(self, teachers: int) -> float:
        """Share of so many teachers that is asked about an image."""
        return min(1.0, (self.memory.teachers_per_image or teachers) / max(teachers, 1))

    def value(self, key: str) -> object:
        """The value at `section.key`."""
        section, _, name = key.partition(".")
        return getattr(getattr(self, section), name)

    def with_value(self, key: str, value: object) -> Workload:
        """The same with another value at `section.key`."""
        section, _, name = key.partition(".")
        return replace(self, **{section: replace(getattr(self, section), **{name: value})})
