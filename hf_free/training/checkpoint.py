"""The checkpoint a run goes on from: saved whole, resumed to the bit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hf_free.errors import RunError
from hf_free.learner.format import plain_tensors
from hf_free.provenance.teacher_record import TeacherRecord
from hf_free.training.absolute_paths import absolute_texts
from hf_free.training.folder import RunFolder
from hf_free.training.run import Run
from hf_free.training.state import RunState


def write_teachers(folder: RunFolder, models: Sequence[str], records: Sequence[TeacherRecord]) -> None:
    """Note which teachers a run has, at which commits and with which settings, for `teachers_to_resume`."""
    folder.write_json(folder.teachers, {"models": list(models), "teachers": [record.to_dict() for record in records]})


def teachers_to_resume(folder: RunFolder, models: Sequence[str]) -> list[TeacherRecord] | list[str]:
    """The teachers that a run began with, whatever a branch, a collection or a YAML list says by now.

    A run that is older than this note has no more than its configuration's texts.

    Raises:
        RunError: `models` names others.
    """
    if not folder.teachers.is_file():
        return list(models)
    begun = json.loads(folder.teachers.read_text(encoding="utf-8"))
    if absolute_texts(begun["models"]) != absolute_texts(models):
        raise RunError(
            f"{folder.root} was begun with other teachers: {', '.join(begun['models'])}",
            allowed="the same teachers while a run goes on",
            action="leave out --models, or train a new run; --from adds teachers to a learner",
        )
    return [TeacherRecord.from_dict(record) for record in begun["teachers"]]


def save_checkpoint(run: Run) -> None:
    """Write everything that a run needs to go on as if it had never stopped."""

    def write(folder: Path) -> None:
        # tied weights are written twice: Accelerate would drop one of each, and list them all in a warning
        untied = run.accelerator.register_save_state_pre_hook(_untie)
        try:
            run.accelerator.save_state(str(folder / "accelerate"), safe_serialization=True)
        finally:
            untied.remove()
        run.memory.save(folder / "memory.safetensors")
        run.held_out.save(folder / "held_out.safetensors")
        save_file(plain_tensors(run.objective.tensors()), folder / "bell.safetensors")
        (folder / "state.json").write_text(json.dumps(vars(run.state), indent=2), encoding="utf-8")

    run.folder.write_checkpoint(write)


def _untie(models: list[nn.Module], weights: list[dict[str, Tensor]], folder: str) -> None:
    """Replace each network's weights by copies that share no memory, before Accelerate saves them."""
    weights[:] = [plain_tensors(tensors) for tensors in weights]


def _load_weights(models: list[nn.Module], folder: str) -> None:
    """Load each network's weights, which Accelerate cannot where tied ones lie in memory as channels_last."""
    for place, model in enumerate(models):
        name = "model.safetensors" if place == 0 else f"model_{place}.safetensors"  # as Accelerate calls them
        model.load_state_dict(load_file(Path(folder) / name))
    models.clear()  # nothing is left for Accelerate


def load_checkpoint(run: Run) -> RunState:
    """Read what `save_checkpoint` wrote into the run's networks and memory; its state is given back.

    Raises:
        RunError: there is no checkpoint.
    """
    folder = run.folder.checkpoint_to_resume()
    loaded = run.accelerator.register_load_state_pre_hook(_load_weights)
    try:
        run.accelerator.load_state(str(folder / "accelerate"))
    finally:
        loaded.remove()
    run.memory.load(folder / "memory.safetensors")
    run.held_out.load(folder / "held_out.safetensors")
    run.objective.load_tensors(load_file(folder / "bell.safetensors"))
    return RunState(**json.loads((folder / "state.json").read_text(encoding="utf-8")))
