"""A network's modules without weights, from which networks of the same kind are made in a fraction of the time.

`copy.deepcopy` looks into each of the thirty attributes of each module, and `load_state_dict` walks through all of
them several times. Here it is noted once what is the same in all copies, and weights are put into their places.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

_NEVER_CHANGED = (bool, int, float, str, NoneType)

_PLAIN_LOADING = (nn.Module._load_from_state_dict, _NormBase._load_from_state_dict)


def without_memory(saved: Mapping[str, Tensor]) -> dict[int, object]:
    """What `copy.deepcopy` takes in the place of tensors, by their id: as many others on the meta device."""
    return {id(tensor): _like(tensor, _empty(tensor)) for tensor in saved.values()}


def _empty(tensor: Tensor) -> Tensor:
    return tensor.detach() if tensor.is_meta else torch.empty_like(tensor, device="meta")


def _like(tensor: Tensor, values: Tensor) -> Tensor:
    """Values as a weight or a buffer, as the tensor in whose place they come."""
    return nn.Parameter(values, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else values


@dataclass(frozen=True)
class _Module:
    """How a module is copied."""

    kind: type[nn.Module]
    same: dict[str, object]
    """Attributes that are never changed: numbers, texts, tuples of these."""
    empty: dict[str, type]
    """Those that are empty dictionaries or sets."""
    flat: dict[str, dict[object, object]]
    """Dictionaries of what is never changed."""
    held: dict[str, dict[str, object]]
    """Those that hold modules and tensors by name."""
    others: dict[str, object]


class Template:
    """Makes copies of a network.

    Args:
        network: With weights on the meta device. It stays as it is.
    """

    def __init__(self, network: nn.Module) -> None:
        self._saved = network.state_dict(keep_vars=True)
        self._form = {key: (tensor.shape, tensor.dtype) for key, tensor in self._saved.items()}
        self._modules = list(network.modules())
        self._ways = [_way_of(module) for module in self._modules]
        self._is_plain = all(map(_loads_plainly, self._modules))

    def copy(self) -> nn.Module:
        """A network with empty weights of its own on the meta device: a file of another type changes theirs alone."""
        return self._with(without_memory(self._saved))

    def filled(self, weights: Mapping[str, Tensor]) -> nn.Module | None:
        """A network with these weights, kernels of convolutions channels-last; None where they are not just its own.

        Args:
            weights: Of a file, by their names; they are not copied. Other names, shapes or types, and modules with
                their own way of loading, are for `load_state_dict`.
        """
        if not self._is_plain or len(weights) != len(self._form):
            return None
        if any(self._form.get(key) != (tensor.shape, tensor.dtype) for key, tensor in weights.items()):
            return None
        ready = {key: _channels_last(tensor) for key, tensor in weights.items()}
        return self._with({id(place): _like(place, ready[key]) for key, place in self._saved.items()})

    def _with(self, memo: dict[int, object]) -> nn.Module:
        copies = [way.kind.__new__(way.kind) for way in self._ways]
        memo.update({id(module): copied for module, copied in zip(self._modules, copies, strict=True)})
        for way, copied in zip(self._ways, copies, strict=True):
            values = copied.__dict__
            values.update(way.same)
            values.update({key: kind() for key, kind in way.empty.items()})
            # where two attributes are the same dictionary, so they are in the copy
            values.update({key: memo.setdefault(id(value), dict(value)) for key, value in way.flat.items()})
            for key, held in way.held.items():
                values[key] = held.__class__({name: _copied(value, memo) for name, value in held.items()})
            values.update({key: copy.deepcopy(value, memo) for key, value in way.others.items()})
        return copies[0]


def _copied(value: object, memo: dict[int, object]) -> object:
    known = memo.get(id(value))
    return copy.deepcopy(value, memo) if known is None else known


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def _way_of(module: nn.Module) -> _Module:
    way = _Module(module.__class__, {}, {}, {}, {}, {})
    for key, value in module.__dict__.items():
        if _is_never_changed(value):
            way.same[key] = value
        elif type(value) in (dict, OrderedDict, set) and not value:
            way.empty[key] = value.__class__
        elif key in ("_parameters", "_buffers", "_modules"):
            way.held[key] = value
        elif type(value) is dict and all(map(_is_never_changed, value.values())):
            way.flat[key] = value
        else:
            way.others[key] = value
    return way


def _is_never_changed(value: object) -> bool:
    return isinstance(value, _NEVER_CHANGED) or (type(value) is tuple and all(map(_is_never_changed, value)))


def _loads_plainly(module: nn.Module) -> bool:
    """Whether `load_state_dict` does nothing but put weights into their places."""
    has_hooks = module._load_state_dict_pre_hooks or module._load_state_dict_post_hooks
    return not has_hooks and type(module)._load_from_state_dict in _PLAIN_LOADING
