"""The checkpoint a run goes on from: saved whole, resumed to the bit."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hf_free.errors import RunError
from hf_free.learner.format import plain_tensors
from hf_free.provenance.reading import Json, list_of, object_of, texts_of
from hf_free.provenance.teacher_record import TeacherRecord
from hf_free.runtime.device import is_out_of_memory
from hf_free.runtime.files import write_file
from hf_free.runtime.saved_json import read_saved
from hf_free.runtime.text import others_words
from hf_free.training.absolute_paths import absolute_texts
from hf_free.training.checkpoint_store import WholeCheckpoint
from hf_free.training.folder import COMPANIONS, RunFolder
from hf_free.training.manifest import Manifest, Topology
from hf_free.training.resuming import check_configuration, check_topology
from hf_free.training.run import Run
from hf_free.training.state import RunState

logger = logging.getLogger(__name__)


def write_teachers(folder: RunFolder, models: Sequence[str], records: Sequence[TeacherRecord]) -> None:
    """Write down which teachers a run has, at which commits and with which settings, for `teachers_to_resume`."""
    folder.write_json(folder.teachers, {"models": list(models), "teachers": [record.to_dict() for record in records]})


def teachers_to_resume(folder: RunFolder, models: Sequence[str]) -> list[TeacherRecord] | list[str]:
    """The teachers that a run began with, whatever a branch, a collection or a YAML list says by now.

    A run from before this note existed has only its configuration's texts.

    Raises:
        RunError: `models` names others, or the note is damaged.
    """
    if not folder.teachers.is_file():
        return list(models)
    action = "restore it from a copy, or start again with --overwrite"
    begun = object_of(read_saved(folder.teachers, action=action))
    known, records = texts_of(begun.get("models")), list_of(begun.get("teachers"))
    told = all(isinstance(begun.get(key), list) for key in ("models", "teachers"))  # networks in memory: no models
    if not told or not all(isinstance(record, dict) for record in records):
        raise RunError(f"{folder.teachers} does not say which teachers the run was begun with", action=action)
    if absolute_texts(known) != absolute_texts(models):
        raise RunError(
            f"{folder.root} was begun with other teachers: {', '.join(known)}",
            allowed="the same teachers while a run goes on",
            action="leave out --models, or train a new run; --from adds teachers to a learner",
        )
    try:
        return [TeacherRecord.from_dict(record) for record in records]
    except TypeError as error:
        raise RunError(f"{folder.teachers} is damaged: {error}", action=action) from None


BEST = "best.safetensors"
"""The best learner so far, as it lies in a checkpoint."""


def save_checkpoint(run: Run) -> Path:
    """Write everything that a run needs to go on as if it had never stopped.

    Returns:
        The checkpoint's folder.

    Raises:
        StorageError: it cannot be written; the one before is as it was.
    """

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
        (folder / "state.json").write_text(json.dumps(run.state.to_dict(), indent=2), encoding="utf-8")
        if run.folder.best.is_file():
            _link(run.folder.best, folder / BEST)
        (folder / "run").mkdir()
        for name in COMPANIONS:
            if (run.folder.root / name).is_file():
                shutil.copyfile(run.folder.root / name, folder / "run" / name)

    about = Manifest(run.state.step, run.config.to_dict(), Topology.here(run.device, run.chains.ranks.count))
    keep = run.config.trainer.keep_checkpoints
    written = run.folder.write_checkpoint(write, about, keep=keep, needed=_bytes_of(run))
    if run.remote is not None:
        run.remote.push(written, run.state.step)
    return written


def _link(source: Path, target: Path) -> None:
    """A second name for a file that is only ever replaced whole; a copy where there are no such links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _bytes_of(run: Run) -> int:
    """About how much space a checkpoint takes."""
    networks = (run.learner, *run.inverter.modules().values(), *run.objective.modules().values())
    tensors = [tensor for network in networks for tensor in network.state_dict().values()]
    for optimizer in (*run.inverter.optimizers(), *run.objective.optimizers()):
        tensors += [value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
    tensors += run.objective.tensors().values()
    return run.memory.nbytes + run.held_out.nbytes + sum(tensor.nbytes for tensor in tensors)


def _untie(models: list[nn.Module], weights: list[dict[str, Tensor]], folder: str) -> None:
    """Replace each network's weights by copies that share no memory, before Accelerate saves them."""
    weights[:] = [plain_tensors(tensors) for tensors in weights]


def _load_weights(models: list[nn.Module], folder: str) -> None:
    """Load each network's weights, which Accelerate cannot where tied ones lie in memory as channels_last."""
    for place, model in enumerate(models):
        name = "model.safetensors" if place == 0 else f"model_{place}.safetensors"  # as Accelerate calls them
        model.load_state_dict(load_file(Path(folder) / name))
    models.clear()  # nothing is left for Accelerate


def choose_checkpoint(folder: RunFolder, config: Json) -> WholeCheckpoint:
    """The newest whole checkpoint of a run, checked before anything of it is loaded.

    Args:
        folder: The run's.
        config: The run's configuration, as `FreeConfig.to_dict` gives it, with absolute paths.

    Raises:
        RunError: there is none, or it is of another configuration or of a later hf-free.
    """
    chosen = folder.whole_checkpoint(contents=True)
    for line in (*chosen.passed_over, *check_configuration(chosen, config)):
        logger.warning("%s", line)
    return chosen


def load_checkpoint(run: Run, chosen: WholeCheckpoint) -> RunState:
    """Read a checkpoint into the run's networks and memory; returns its state.

    Raises:
        RunError: it does not fit the run.
    """
    folder = chosen.folder
    for line in check_topology(chosen, Topology.here(run.device, run.chains.ranks.count)):
        logger.warning("%s", line)
    loaded = run.accelerator.register_load_state_pre_hook(_load_weights)
    try:
        run.accelerator.load_state(str(folder / "accelerate"))
        run.memory.load(folder / "memory.safetensors")
        run.held_out.load(folder / "held_out.safetensors")
        run.objective.load_tensors(load_file(folder / "bell.safetensors"))
        state = RunState.from_dict(object_of(read_saved(folder / "state.json", action="")))
    except Exception as error:  # the files are intact, so they belong to another run or an older hf-free
        if isinstance(error, OSError) or is_out_of_memory(error):
            raise  # these describe this machine, not the checkpoint's
        reason = others_words(error).removeprefix("TypeError: ")  # of a state the rest says enough
        raise RunError(
            f"the checkpoint {folder}, of hf-free {chosen.manifest.version}, does not fit this run: {reason}",
            allowed="a checkpoint of this very run",
            action="go on with that version, or start again with --overwrite",
        ) from error
    finally:
        loaded.remove()
    if (folder / BEST).is_file() and run.chains.ranks.is_first:
        write_file(run.folder.best, lambda scratch: shutil.copyfile(folder / BEST, scratch))
    return state
