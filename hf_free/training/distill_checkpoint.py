"""The checkpoint that `distill` goes on from: network, pictures and random numbers, whole, resumed to the bit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hf_free.errors import RunError
from hf_free.learner.format import plain_tensors
from hf_free.pooling.imitation import PictureBank
from hf_free.provenance.reading import check_types, object_of
from hf_free.provenance.run_record import Energy
from hf_free.runtime.random_streams import Stream
from hf_free.runtime.saved_json import read_saved
from hf_free.training.checkpoint_store import CheckpointStore, WholeCheckpoint
from hf_free.training.manifest import Manifest

TENSORS, STATE = "distill.safetensors", "state.json"


@dataclass
class Done:
    """How far `distill` has come."""

    seconds: float = 0.0
    """Time spent on asking and learning, over all resumptions."""
    asking: float = 0.0
    """That spent on asking."""
    updates: int = 0
    """Updates of the network."""
    loss: float | None = None
    """Running mean of the loss; None before the first update."""
    energy: Energy = field(default_factory=Energy)
    """What was measured, over all resumptions."""


@dataclass(frozen=True)
class Parts:
    """What changes while `distill` learns, besides `Done`."""

    network: nn.Module
    projection: nn.Module
    optimizer: torch.optim.Optimizer
    bank: PictureBank
    held_out: tuple[Tensor, Tensor]
    """Pictures that are not learned from, and what the teachers say of them."""
    streams: Mapping[str, Stream]
    """Random numbers by purpose."""


def write_checkpoint(store: CheckpointStore, parts: Parts, done: Done, about: Manifest) -> Path:
    """Write a checkpoint in place of the one before, which goes when the new one is whole.

    Returns:
        Its folder.

    Raises:
        StorageError: it cannot be written; the one before is as it was.
    """
    tensors = _tensors(parts)

    def fill(folder: Path) -> None:
        save_file(tensors, folder / TENSORS)
        (folder / STATE).write_text(json.dumps(asdict(done)), encoding="utf-8")

    return store.write(fill, about, needed=sum(tensor.nbytes for tensor in tensors.values()))


def read_held_out(chosen: WholeCheckpoint) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor]]:
    """A checkpoint's tensors, by name, and the held-out pictures and answers among them."""
    tensors = load_file(chosen.folder / TENSORS)
    return tensors, (tensors["held_out.images"], tensors["held_out.targets"])


def load_parts(chosen: WholeCheckpoint, tensors: Mapping[str, Tensor], parts: Parts) -> Done:
    """Give the parts what a checkpoint holds; how far it had come.

    Raises:
        RunError: it is of other networks.
    """
    try:
        parts.network.load_state_dict(_below("network.", tensors))
        parts.projection.load_state_dict(_below("projection.", tensors))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _below("optimizer.", tensors).items():
            number, _, key = name.partition(".")
            moments.setdefault(int(number), {})[key] = value
        groups = parts.optimizer.state_dict()["param_groups"]
        parts.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        saved = object_of(read_saved(chosen.folder / STATE, action="start again with --overwrite"))
        check_types(Done, {key: value for key, value in saved.items() if key != "energy"})
        done = Done(**{**saved, "energy": Energy.from_dict(object_of(saved.get("energy")))})
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise RunError(
            f"the checkpoint {chosen.folder} does not fit: {' '.join(str(error).split())[:200]}",
            allowed="the network and the settings that it was begun with",
            action="give the same flags, or start again with --overwrite",
        ) from error
    parts.bank.load_tensors(_below("bank.", tensors))
    for purpose, stream in parts.streams.items():
        stream.load_states(_below(f"random.{purpose}.", tensors))
    torch.set_rng_state(tensors["random"])
    return done


def _tensors(parts: Parts) -> dict[str, Tensor]:
    images, targets = parts.held_out
    moments = parts.optimizer.state_dict()["state"]
    named = {
        "network": parts.network.state_dict(),
        "projection": parts.projection.state_dict(),
        **{f"optimizer.{number}": state for number, state in moments.items()},
        "bank": parts.bank.tensors(),
        "held_out": {"images": images, "targets": targets},
        **{f"random.{purpose}": stream.states() for purpose, stream in parts.streams.items()},
    }
    found = {f"{part}.{name}": value for part, tensors in named.items() for name, value in tensors.items()}
    return plain_tensors({**found, "random": torch.get_rng_state()})


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
