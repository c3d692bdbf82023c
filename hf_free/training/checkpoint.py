"""The checkpoint a run goes on from: saved whole, resumed to the bit."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import accelerate
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hf_free.config.tree import FreeConfig
from hf_free.errors import RunError
from hf_free.learner.format import plain_tensors
from hf_free.memory.bank import TaskMemory
from hf_free.metalearning.base import Objective
from hf_free.provenance.teacher_record import TeacherRecord
from hf_free.training.absolute_paths import absolute_texts
from hf_free.training.folder import RunFolder
from hf_free.training.state import RunState


class OutOfTime(Exception):
    """The minutes of a run are over in the midst of a step: what was begun is dropped, what was done stays."""


FIRST_CHECKPOINT_SECONDS = 60.0
"""Seconds of a run after which its first checkpoint is written, as soon as anything is recovered."""

SHARE_BETWEEN_CHECKPOINTS = 0.25
"""Share of a run's minutes that lies between two checkpoints at most, so that short runs have some."""

CHECKPOINT_COST = 20
"""A checkpoint that takes long is written more seldom: this many times as long lies between two."""


class CheckpointSchedule:
    """When a run writes a checkpoint: every `trainer.checkpoint_every` steps, and by the clock.

    By the clock the first comes after the first minute that recovered something, the others every
    `trainer.checkpoint_minutes`; in a short run all come sooner.

    Args:
        config: The run's configuration.
        seconds: Time spent before this start.
    """

    def __init__(self, config: FreeConfig, seconds: float) -> None:
        trainer = config.trainer
        limit = SHARE_BETWEEN_CHECKPOINTS * 60 * trainer.max_minutes if trainer.max_minutes else math.inf
        self._between = min(60 * trainer.checkpoint_minutes, limit)
        self._next = seconds + min(FIRST_CHECKPOINT_SECONDS, self._between)
        self._is_first = True
        self._every, self._asked_at = trainer.checkpoint_every, seconds

    def is_due(self, step: int, seconds: float, *, has_recovered: bool) -> bool:
        """Whether one is due after a step, so many seconds into the run; the clock's first waits for pictures."""
        self._asked_at = seconds
        by_clock = seconds >= self._next and (has_recovered or not self._is_first)
        return by_clock or step % self._every == 0

    def written(self, seconds: float) -> None:
        """Take note that the one that was due is written, so many seconds into the run."""
        self._is_first = False
        self._next = seconds + max(self._between, CHECKPOINT_COST * (seconds - self._asked_at))


def write_teachers(run: RunFolder, config: FreeConfig, records: Sequence[TeacherRecord]) -> None:
    """Note which teachers a run has, at which commits and with which settings, for `teachers_to_resume`."""
    run.write_json(run.teachers, {"models": config.models, "teachers": [record.to_dict() for record in records]})


def teachers_to_resume(run: RunFolder, config: FreeConfig) -> list[TeacherRecord] | list[str]:
    """The teachers that a run began with, whatever a branch, a collection or a YAML list says by now.

    A run that is older than this note has no more than its configuration's texts.

    Raises:
        RunError: the configuration names others.
    """
    if not run.teachers.is_file():
        return config.models
    begun = json.loads(run.teachers.read_text(encoding="utf-8"))
    if absolute_texts(begun["models"]) != absolute_texts(config.models):
        raise RunError(
            f"{run.root} was begun with other teachers: {', '.join(begun['models'])}",
            allowed="the same teachers while a run goes on",
            action="leave out --models, or train a new run; --from adds teachers to a learner",
        )
    return [TeacherRecord.from_dict(record) for record in begun["teachers"]]


def save_checkpoint(
    run: RunFolder,
    accelerator: accelerate.Accelerator,
    bell: Objective,
    memory: TaskMemory,
    held_out: TaskMemory,
    state: RunState,
) -> None:
    """Write everything that a run needs to go on as if it had never stopped."""

    def write(folder: Path) -> None:
        # tied weights are written twice: Accelerate would drop one of each, and list them all in a warning
        untied = accelerator.register_save_state_pre_hook(_untie)
        try:
            accelerator.save_state(str(folder / "accelerate"), safe_serialization=True)
        finally:
            untied.remove()
        memory.save(folder / "memory.safetensors")
        held_out.save(folder / "held_out.safetensors")
        save_file(plain_tensors(bell.tensors()), folder / "bell.safetensors")
        (folder / "state.json").write_text(json.dumps(vars(state), indent=2), encoding="utf-8")

    run.write_checkpoint(write)


def _untie(models: list[nn.Module], weights: list[dict[str, Tensor]], folder: str) -> None:
    """Replace each network's weights by copies that share no memory, before Accelerate saves them."""
    weights[:] = [plain_tensors(tensors) for tensors in weights]


def _load_weights(models: list[nn.Module], folder: str) -> None:
    """Load each network's weights, which Accelerate cannot where tied ones lie in memory as channels_last."""
    for place, model in enumerate(models):
        name = "model.safetensors" if place == 0 else f"model_{place}.safetensors"  # as Accelerate calls them
        model.load_state_dict(load_file(Path(folder) / name))
    models.clear()  # nothing is left for Accelerate


def load_checkpoint(
    run: RunFolder, accelerator: accelerate.Accelerator, bell: Objective, memory: TaskMemory, held_out: TaskMemory
) -> RunState:
    """Read what `save_checkpoint` wrote.

    Raises:
        RunError: there is no checkpoint.
    """
    folder = run.checkpoint_to_resume()
    loaded = accelerator.register_load_state_pre_hook(_load_weights)
    try:
        accelerator.load_state(str(folder / "accelerate"))
    finally:
        loaded.remove()
    memory.load(folder / "memory.safetensors")
    held_out.load(folder / "held_out.safetensors")
    bell.load_tensors(load_file(folder / "bell.safetensors"))
    return RunState(**json.loads((folder / "state.json").read_text(encoding="utf-8")))
