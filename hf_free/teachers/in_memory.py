"""A network of the user's own, in memory, as a teacher: of timm, of transformers, or any other that classifies."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hf_free.data.resizing import FILTERS
from hf_free.errors import ConfigError, TeacherError
from hf_free.provenance.reading import Json
from hf_free.provenance.teacher_record import TeacherRecord
from hf_free.runtime.device import Precision, choose_device, is_out_of_memory
from hf_free.runtime.foreign_code import told
from hf_free.runtime.given import check_cache_dir, check_kind, check_texts, short_form
from hf_free.runtime.text import others_words
from hf_free.teachers.loader import load_teacher
from hf_free.teachers.own_network import OwnNetwork
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.saving import build_teacher, record_for
from hf_free.teachers.teacher import Answers, Teacher, normalization_census, weight_bytes
from hf_free.teachers.transformers_network import TransformersNetwork, family_of

OwnTeacher = nn.Module | Teacher | str | Path
"""What stands for a teacher in Python: a network, a teacher, or a text or path that names one."""

_SIDES = "input_size=(3, height, width), mean=(r, g, b) and std=(r, g, b), for pixels in [0, 1]"


_DESCRIBED: dict[str, tuple[tuple[type, ...], str]] = {
    "input_size": ((int,), "three whole numbers: channels, height and width"),
    "mean": ((int, float), "a list of one finite number per channel, of pixels in [0, 1]"),
    "std": ((int, float), "a list of one finite number above 0 per channel, of pixels in [0, 1]"),
    "label_names": ((str, int), "a list with one name per class, in their order"),
    "interpolation": ((), ", ".join(FILTERS)),
}
"""What describes a network's pictures and classes: the types of its parts, and the rule in words."""


def given_teachers(models: object) -> list[nn.Module | Teacher | str]:
    """The teachers of a list, paths as the texts that name them.

    Raises:
        ConfigError: no list, such as the name of one teacher, whose letters are none.
    """
    if isinstance(models, str | Path | nn.Module | Mapping) or not isinstance(models, Iterable):
        raise ConfigError(
            f"models={short_form(models)} of type {type(models).__name__}",
            allowed="a list of teachers: Hub ids, folders, or networks",
            action="models=[...]",
        )
    return [str(model) if isinstance(model, Path) else model for model in models]


def as_teacher(
    network: nn.Module,
    *,
    input_size: tuple[int, int, int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    label_names: Sequence[str] | None = None,
    interpolation: str | None = None,
    name: str = "(in memory)",
) -> Teacher:
    """Make a teacher of a network in memory. It is copied: the network itself stays as it is.

    Everything is known about timm's networks; values given here win. Other networks need the size of their pictures
    and the mean and deviation that these were normalized with. The features of a network that is neither timm's nor
    transformers' are the input of its last linear layer, where that layer gives the answers, else the answers.

    Args:
        network: Maps normalized pictures (B, C, H, W) to logits (B, classes).
        input_size: Channels, height and width of its pictures.
        mean: Mean of each channel, of pixels in [0, 1].
        std: Deviation of each channel.
        label_names: Name of each class.
        interpolation: Filter that pictures are resized with; None: timm's, else bilinear.
        name: What logs and records call it.

    Raises:
        TeacherError: a network that needs more to be said, that does not classify, or that cannot be looked into.
    """
    check_kind(name, "name", str, allowed="a text", optional=False, error=TeacherError)
    network = _checked(network, name)
    _check_described(input_size=input_size, mean=mean, std=std, label_names=label_names, interpolation=interpolation)
    given = {"input_size": input_size, "mean": mean, "std": std, "label_names": label_names}
    known: Json = {key: tuple(_plain(value)) for key, value in given.items() if value is not None}
    copied = _copied(network, name)
    if hasattr(network, "pretrained_cfg") and hasattr(network, "forward_head"):
        filtered = {} if interpolation is None else {"interpolation": interpolation}
        record = record_for(copied, reference=name, **known, **filtered)
        _check_fits(record, label_names)
        return build_teacher(copied, record)
    if input_size is None or mean is None or std is None:
        raise TeacherError(
            f"{name}: a {type(network).__name__}, and nothing says how it is shown pictures",
            allowed="networks of timm; others with the size, mean and deviation of their pictures",
            action=f"hf_free.teachers.in_memory.as_teacher(network, {_SIDES})",
        )
    config: Any = getattr(network, "config", None)
    family = family_of(str(getattr(config, "model_type", "")), type(network).__name__)
    if family is not None:
        set_attention: Any = getattr(copied, "set_attn_implementation", None)
        if set_attention is not None:
            set_attention("eager")  # whose second derivatives exist
        wrapped: nn.Module = TransformersNetwork(copied, family, type(network).__name__)
    else:
        wrapped = OwnNetwork(copied, known["input_size"])
    features, logits = _tried(wrapped.eval(), known["input_size"], name)
    record = TeacherRecord(
        reference=name,
        repo_id=None,
        commit=None,
        architecture=type(network).__name__,
        parameters=sum(p.numel() for p in wrapped.parameters()),
        input_size=known["input_size"],
        fixed_input_size=True,
        mean=known["mean"],
        std=known["std"],
        interpolation=interpolation or "bilinear",
        num_classes=logits.shape[1],
        label_names=known.get("label_names"),
        num_features=features.shape[1],
        normalization=normalization_census(wrapped),
        weight_bytes=weight_bytes(wrapped),
    )
    _check_fits(record, label_names)
    return Teacher(wrapped, record)


def pool_in_memory(
    models: Sequence[OwnTeacher],
    *,
    device: str | torch.device = "cpu",
    token: str | None = None,
    cache_dir: str | Path | None = None,
    precision: Precision | None = None,
) -> TeacherPool:
    """A pool of networks in memory, and of teachers that texts name, which stay in memory too.

    Args:
        models: Networks (see `as_teacher`), teachers, texts.
        device: Where they compute.
        token: Hub token, for texts.
        cache_dir: Folder of the download cache, for texts.
        precision: What they will be computed in.

    Raises:
        TeacherError: one that cannot be a teacher.
        HubError: files that cannot be fetched.
    """
    check_texts(token=token)
    check_cache_dir(cache_dir)
    check_kind(precision, "precision", Precision, allowed="a Precision, as Precision.choose gives, or None")
    teachers, where = [], choose_device(device)
    for place, model in enumerate(given_teachers(models), start=1):
        if isinstance(model, str):
            teacher = load_teacher(model, token=token, cache_dir=cache_dir, device=where, precision=precision)
        elif isinstance(model, Teacher):
            teacher = model.to(where)
        else:
            teacher = as_teacher(model, name=f"(in memory {place})").to(where)
        teachers.append(teacher)
    return TeacherPool.from_teachers(teachers)


def _plain(values: Iterable[Any]) -> list[Any]:
    """Numbers of Python in place of numpy's and torch's, which JSON does not know."""
    return [value.item() if hasattr(value, "item") else value for value in values]


def _check_described(**given: object) -> None:
    """Refuse what describes no pictures or classes, by its argument's name.

    Raises:
        TeacherError: with what is allowed.
    """
    for name, value in given.items():
        kinds, rule = _DESCRIBED[name]
        parts = None
        if isinstance(value, list | tuple) or getattr(value, "ndim", None) == 1:  # arrays and tensors too
            parts = _plain(value)  # type: ignore[arg-type]
        is_list = parts is not None and bool(parts) and all(type(part) in kinds for part in parts)
        is_size = name != "input_size" or (is_list and parts is not None and len(parts) == 3 and min(parts) > 0)
        if name in ("mean", "std") and is_list and parts is not None:  # a deviation of zero makes everything infinite
            is_list = all(math.isfinite(part) and (part > 0 or name == "mean") for part in parts)
        is_one = value in FILTERS if name == "interpolation" else is_list and is_size
        if not (value is None or is_one):
            raise TeacherError(f"{name}={short_form(value)} of type {type(value).__name__}", allowed=rule)


def _check_fits(record: TeacherRecord, label_names: Sequence[object] | None) -> None:
    """Refuse what describes other channels or classes than the network's.

    Raises:
        TeacherError: with their numbers.
    """
    channels = record.input_size[0]
    given = {"mean": (len(record.mean), channels, "channels"), "std": (len(record.std), channels, "channels")}
    if label_names is not None:
        given["label_names"] = (len(label_names), record.num_classes, "classes")
    for key, (found, wanted, what) in given.items():
        if found != wanted:
            raise TeacherError(
                f"{record.reference}: {key} of length {found}, and its {what} are {wanted}", allowed=_DESCRIBED[key][1]
            )


def _checked(network: object, name: str) -> nn.Module:
    """A network whose layers can be looked into, without what torch wraps networks in.

    Raises:
        TeacherError: none, or a compiled program, whose BatchNorm layers cannot be read and whose weights cannot be
            frozen or copied as those of a network can.
    """
    wrapped = getattr(network, "_orig_mod", None)  # by torch.compile
    if isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel):
        wrapped = network.module
    if isinstance(wrapped, nn.Module):
        return _checked(wrapped, name)
    if not isinstance(network, nn.Module):
        is_exported = isinstance(getattr(network, "graph_module", None), nn.Module)
        raise TeacherError(
            f"{name}: {short_form(network)} of type {type(network).__name__}",
            allowed="a network (torch.nn.Module), a loaded teacher, or a text or path that names one",
            action="give the network that was exported, or PROGRAM.module()" if is_exported else "",
        )
    scripted = [part for part in network.modules() if isinstance(part, torch.jit.ScriptModule)]
    if any(part is network or next(chain(part.parameters(), part.buffers()), None) is not None for part in scripted):
        held = "a TorchScript program" if scripted[0] is network else "a network with parts in TorchScript"
        raise TeacherError(
            f"{name}: {held} (torch.jit), whose layers cannot be looked into",
            allowed="networks of Python classes (torch.nn.Module)",
            action="build the network from its class and fill it: network.load_state_dict(scripted.state_dict())",
        )
    tensors = [*network.parameters(), *network.buffers()]
    if any(tensor.is_meta for tensor in tensors):
        raise TeacherError(f"{name}: a network without weights (device meta)", allowed="a network with its weights")
    if any(tensor.dtype == torch.float64 for tensor in network.parameters()):
        raise TeacherError(
            f"{name}: a network with weights of 64 bits", allowed="at most 32 bits", action="give network.float()"
        )
    return network


def _copied(network: nn.Module, name: str) -> nn.Module:
    """A copy of a network in eval mode.

    Raises:
        TeacherError: it cannot be copied.
    """
    try:
        return copy.deepcopy(network).eval()
    except Exception as error:  # what it holds is the user's own: a weight that is computed, a lock, a file
        if is_out_of_memory(error):
            raise
        raise TeacherError(
            f"{name}: this {type(network).__name__} cannot be copied: {others_words(error)}",
            allowed="networks that copy.deepcopy copies: weights that are parameters or buffers, not results",
            action="detach what is computed; for torch.nn.utils.weight_norm: torch.nn.utils.remove_weight_norm(layer)",
        ) from error


def _tried(network: nn.Module, input_size: tuple[int, int, int], name: str) -> tuple[Tensor, Tensor]:
    """Features and logits of two pictures, where the network answers about one as well.

    Raises:
        TeacherError: it does not.
    """

    def ask(count: int, called: str) -> tuple[Tensor, Tensor]:
        def cannot(error: BaseException) -> TeacherError:
            return TeacherError(
                f"{name}: it cannot answer about {called} of {input_size}: {others_words(error)}",
                allowed="networks that answer about any number of pictures of that size",
                action="give the size that it takes; a program that was exported for one number of pictures: the "
                "network that it was made of",
            )

        with told(cannot), torch.no_grad():
            features, logits = Answers(network).ask(torch.zeros((count, *input_size)), "both")
            return features, logits

    ask(1, "one picture")
    return ask(2, "two pictures")


def weights_sha256(network: nn.Module) -> str:
    """SHA-256 of a network's parameters and buffers, wherever they lie."""
    digest = hashlib.sha256()
    for name, tensor in sorted([*network.named_parameters(), *network.named_buffers()], key=itemgetter(0)):
        plain = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)  # NumPy has no bfloat16
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode() + plain.numpy().tobytes())
    return digest.hexdigest()
