"""The checkpoint a run goes on from: saved whole, resumed to the bit."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Sequence
from itertools import zip_longest
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
from hf_free.runtime.text import listed, others_words
from hf_free.teachers.in_memory import weights_sha256
from hf_free.teachers.pool import TeacherPool
from hf_free.training.absolute_paths import absolute_texts
from hf_free.training.checkpoint_store import WholeCheckpoint
from hf_free.training.folder import COMPANIONS, RunFolder
from hf_free.training.manifest import Manifest, Topology
from hf_free.training.resuming import check_configuration, check_topology
from hf_free.training.run import Run
from hf_free.training.state import RunState

logger = logging.getLogger(__name__)


def write_teachers(folder: RunFolder, models: Sequence[str], pool: TeacherPool) -> None:
    """Write down which teachers a run has, at which commits and with which settings, for `teachers_to_resume`; of
    those that were given as networks also what their weights are, for `check_given_again`."""
    teachers = [record.to_dict() for record in pool.records]
    about = {"models": list(models), "teachers": teachers, _OWN: _weights_in_memory(pool)}
    folder.write_json(folder.teachers, about)


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


def check_given_again(
    folder: RunFolder, begun: Sequence[TeacherRecord] | Sequence[str], pool: TeacherPool | None
) -> None:
    """Refuse other teachers in memory than those that a run began with; what the learner knows is of those.

    Args:
        folder: The run's.
        begun: What `teachers_to_resume` gave.
        pool: The teachers that are given now; None where texts name them.

    Raises:
        RunError: networks that are not given again, or others.
    """
    records = [record for record in begun if isinstance(record, TeacherRecord)]
    lost = [record.reference for record in records if record.is_in_memory]
    again = "give all its teachers again, in their order: hf_free.train(..., models=[...], resume=True)"
    if pool is None:
        if lost:
            raise RunError(
                f"{folder.root} was begun with networks in memory, which no file holds: {listed(lost)}",
                allowed="the same networks while a run goes on",
                action=f"{again} in Python",
            )
        return
    if not folder.teachers.is_file():
        return  # of a version that wrote none
    noted = texts_of(object_of(read_saved(folder.teachers, action=again)).get(_OWN))
    own = zip_longest(noted, _weights_in_memory(pool), fillvalue="") if noted else []
    others = {place for place, (before, now) in enumerate(own) if before != now}
    pairs = enumerate(zip(records, pool.records, strict=False))
    others |= {place for place, (before, now) in pairs if any(getattr(before, k) != getattr(now, k) for k in _SAME)}
    if len(records) == len(pool) and not others:
        return
    names = [f"{pool.records[place].reference} (teacher {place + 1})" for place in sorted(others) if place < len(pool)]
    counts = f"{len(records)} teachers, and {len(pool)} that can be used are given"
    shown = counts if len(records) != len(pool) else f"another network than {listed(names)}"
    raise RunError(
        f"{folder.root} was begun with {shown}", allowed="the same teachers while a run goes on", action=again
    )


def _weights_in_memory(pool: TeacherPool) -> list[str]:
    """SHA-256 of the weights of each teacher that was given as a network; empty for others, whose files are known."""
    networks = pool.given_networks
    return [weights_sha256(networks[place]) if place in networks else "" for place in range(len(pool))]


_OWN = "weights_in_memory"
"""Key of what `_weights_in_memory` gives."""

_SAME = ("architecture", "num_classes", "classes", "num_features", "input_size", "mean", "std", "sha256")
"""What tells teachers apart besides their weights in memory. Their names do not."""

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
