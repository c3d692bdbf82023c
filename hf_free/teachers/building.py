"""From a checked configuration to a network of timm: built, or copied from one of the same kind.

Most of what a network costs to build are random weights that its file replaces at once. Where many teachers are of one
kind, the second makes a template: the same modules without weights. The others are copies of it.
"""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hf_free.backbones.base import BUILD_ERRORS
from hf_free.backbones.weights import infinite_buffers
from hf_free.errors import HfFreeError, TeacherError
from hf_free.runtime.device import is_out_of_memory
from hf_free.runtime.text import others_words
from hf_free.teachers.config_check import TeacherSpec
from hf_free.teachers.teacher import Answers
from hf_free.teachers.template import Template, without_memory

_KINDS = 64
"""Most kinds of networks that are kept; without weights a ResNet-50 takes about 1 MB."""


def build_network(spec: TeacherSpec, name: str, device: str, tensors: dict[str, Tensor] | None = None) -> nn.Module:
    """The network of a configuration in eval mode, with random weights or with the given ones.

    Args:
        spec: The checked configuration.
        name: How messages call the teacher.
        device: `cpu`, or `meta` for a network that takes no memory.
        tensors: Weights, which timm may rename first.

    Raises:
        TeacherError: arguments that timm cannot use, or a network that is no classifier.
    """
    import timm

    arguments = dict(spec.model_args, num_classes=spec.num_classes, in_chans=spec.input_size[0])
    try:
        # Random initialization must not move the random numbers of a training run that loads a teacher late.
        with torch.random.fork_rng(devices=[]), torch.device(device):
            cfg = spec.pretrained_cfg() if tensors is None else {**spec.pretrained_cfg(), "state_dict": tensors}
            network: Any = timm.create_model(
                spec.architecture, pretrained=tensors is not None, pretrained_cfg=cfg, **arguments
            )
            network.pretrained_cfg.pop("state_dict", None)  # else the tensors would stay in memory twice
    except HfFreeError as error:
        raise TeacherError(f"{name}: {error.given}", allowed=error.allowed, action=error.action) from error
    except (Exception, SystemExit) as error:  # of timm's networks one of BUILD_ERRORS, of one's own anything
        if is_out_of_memory(error) or isinstance(error, OSError):  # of a file that has gone, too
            raise
        raise TeacherError(
            f"{name}: timm cannot build {spec.architecture} from its config.json: {others_words(error)}",
            action="correct model_args in its config.json, or leave it out",
        ) from error
    if not hasattr(network, "forward_features") or not hasattr(network, "forward_head"):
        raise TeacherError(
            f"{name}: {spec.architecture} has no forward_features and forward_head",
            allowed="networks with timm's classifier interface",
        )
    return network.eval()


@dataclass(frozen=True)
class Measured:
    """What is the same of all networks of a kind whose weights have the same types."""

    num_features: int
    """Width of the classifier's input."""
    parameters: int
    weight_bytes: int
    normalization: dict[str, int]
    """Number of normalization layers by type."""


@dataclass
class Kind:
    """What is known of networks that are built alike."""

    blank: nn.Module
    """Built on the meta device: names, shapes and types of its tensors. Not to be changed."""
    built: int = 0
    template: Template | None = None
    measured: Measured | None = None
    """Of networks with the template's types."""
    num_features: int | None = None
    """Width of the classifier's input, once it was measured."""
    answers_alone: bool = False
    """Whether one was seen to answer about each picture by itself, in either layout in memory."""


class NetworkBuilder:
    """Builds the networks of teachers; copies one where several are of one kind. Several threads may ask it.

    A copy is used only where one was seen to answer as the network itself does, to the last bit: modules may hold
    functions that belong to the original. Nothing is copied that shares a weight between two modules, or whose buffers
    begin as infinite bounds: those say whether such values in a file are in order.
    """

    def __init__(self) -> None:
        self._kinds: OrderedDict[object, Kind] = OrderedDict()
        self._lock = threading.RLock()

    def kind(self, spec: TeacherSpec, name: str) -> Kind:
        """What is known of networks of a configuration. Raises what `build_network` raises."""
        with self._lock:
            key = kind_of(spec)
            if key not in self._kinds:
                self._kinds[key] = Kind(build_network(spec, name, "meta"))
                if len(self._kinds) > _KINDS:
                    self._kinds.popitem(last=False)
            self._kinds.move_to_end(key)
            return self._kinds[key]

    def known(self, spec: TeacherSpec) -> Kind | None:
        """The kind of a configuration where its networks are copied by now; None where one would have to be built."""
        with self._lock:
            kind = self._kinds.get(kind_of(spec))
            return None if kind is None or kind.template is None else kind

    def empty(self, spec: TeacherSpec, name: str) -> nn.Module:
        """A network of its own on the CPU whose weights all have to be assigned: random ones, or on the meta device.

        Raises what `build_network` raises.
        """
        kind = self.kind(spec, name)
        with self._lock:
            kind.built += 1
            if kind.built == 2:
                kind.template = _template(build_network(spec, name, "cpu"), spec)
        return build_network(spec, name, "cpu") if kind.template is None else kind.template.copy()


def kind_of(spec: TeacherSpec) -> object:
    """What two configurations have in common whose networks are built alike: a key for dictionaries."""
    return spec.architecture, tuple(sorted(spec.model_args.items())), *sorted(spec.pretrained_cfg().items())


def _template(network: nn.Module, spec: TeacherSpec) -> Template | None:
    """A network's modules without weights, or None where copies would not answer as it does.

    Buffers that are not saved, such as tables of positions, keep their values. The network is of no use afterwards:
    its weights become NaN, so that a copy that still asks one of its parts is found out.
    """
    network = network.requires_grad_(False).to(memory_format=torch.channels_last)  # as `Teacher` asks it
    saved = network.state_dict(keep_vars=True)
    if len({id(tensor) for tensor in saved.values()}) < len(saved) or infinite_buffers(network):
        return None
    images = torch.rand((2, *spec.input_size), generator=torch.Generator().manual_seed(0))
    try:
        template = Template(copy.deepcopy(network, without_memory(saved)))
        weights = {key: tensor.detach().clone() for key, tensor in saved.items()}
        copied = template.filled(weights)
        if copied is None:
            copied = template.copy()
            copied.load_state_dict(weights, assign=True)
        with torch.no_grad():
            expected = Answers(network).ask(images, "both")
            for tensor in saved.values():
                if tensor.is_floating_point():
                    tensor.fill_(torch.nan)
            found = Answers(copied).ask(images, "both")
    except (*BUILD_ERRORS, TeacherError):  # what cannot be copied is built each time
        return None
    return template if all(torch.equal(a, b) for a, b in zip(found, expected, strict=True)) else None
