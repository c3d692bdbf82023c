"""The learner of `distill` as several processes train it together, each with a part of its weights (FSDP2)."""

from __future__ import annotations

import copy
from itertools import chain

import torch
from torch import Tensor

from hf_free.learner.meta_learner import MetaLearner
from hf_free.runtime.sharding import shard, shared_out_like, whole


class SharedLearner:
    """A copy of a learner whose weights are shared out; the learner itself stays whole, to be asked and saved.

    Args:
        learner: The same in all processes.
    """

    def __init__(self, learner: MetaLearner) -> None:
        network = shard(copy.deepcopy(learner), learner.device, methods=["raw_answers"])
        assert isinstance(network, MetaLearner)
        self.network = network
        self.parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self._every = list(network.parameters())  # a forward pass lists others in their place

    @torch.no_grad()
    def give_to(self, learner: MetaLearner) -> None:
        """Have a whole learner hold these weights; all processes have to do so."""
        for target, source in zip(learner.parameters(), self._every, strict=True):
            target.copy_(whole(source))
        for buffer, own in zip(learner.buffers(), self.network.buffers(), strict=True):
            buffer.copy_(own)

    @torch.no_grad()
    def take_from(self, learner: MetaLearner) -> None:
        """Take over a whole learner's weights, the same in all processes."""
        for target, source in zip(self._every, learner.parameters(), strict=True):
            target.copy_(shared_out_like(source.detach(), target))
        for own, buffer in zip(self.network.buffers(), learner.buffers(), strict=True):
            own.copy_(buffer)


def whole_moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What an optimizer has in mind, by the parameter's place and the name; all processes have to ask for it."""
    return {
        f"moments.{place}.{name}": whole(value).detach().cpu().clone()
        for place, parameter in enumerate(_parameters(optimizer))
        for name, value in optimizer.state.get(parameter, {}).items()
    }


def load_moments(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give an optimizer what `whole_moments` gave, whoever it was shared out to then."""
    parameters = _parameters(optimizer)
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        kind, _, rest = key.partition(".")
        if kind == "moments":
            place, _, name = rest.partition(".")
            like = parameters[int(place)]
            moved = value.to(like.device)
            fits = moved.shape == like.shape
            state.setdefault(int(place), {})[name] = shared_out_like(moved, like) if fits else moved
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return list(chain.from_iterable(group["params"] for group in optimizer.param_groups))
