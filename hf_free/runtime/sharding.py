"""A network whose weights, gradients and moments are shared out over the processes of a run (FSDP2).

For what takes first derivatives alone: of a sharded network second ones are refused or, worse, left out without a word
(torch 2.14). `fully_shard` is called as Accelerate does, which leaves networks whole on a CPU, without a word.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hf_free.errors import ConfigError

LEAST_PARAMETERS = 100_000
"""Weights of a block that is sharded by itself: fewer are not worth a talk of their own."""


def shard(network: nn.Module, device: torch.device, *, methods: Sequence[str] = ()) -> nn.Module:
    """Share out a network's weights over all processes, in place: blocks by themselves, then what is left.

    Every process has to bring the same weights. Buffers stay whole, and each process's own.

    Args:
        network: Its weights become contiguous, as FSDP2 wants them.
        device: Where it lies.
        methods: Names of methods by which it is called, beside `forward`.

    Returns:
        The same network.

    Raises:
        ConfigError: torch is too old for it.
    """
    try:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
    except ImportError:
        raise ConfigError(
            f"bell.shard_learner with torch {torch.__version__}",
            allowed="torch 2.6 or later, built with torch.distributed",
            action="pip install -U torch, or leave it out",
        ) from None
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for block in _blocks(network):
        fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)
    for name in methods:
        register_fsdp_forward_method(network, name)
    return network


def _blocks(network: nn.Module) -> list[nn.Module]:
    """Members of lists and sequences of modules that are worth it, none within another."""
    shared = _shared_parameters(network)
    found: list[nn.Module] = []
    inside: set[nn.Module] = set()
    for module in network.modules():
        if not isinstance(module, nn.Sequential | nn.ModuleList):
            continue
        for child in module.children():
            own = list(child.parameters())
            is_container = isinstance(child, nn.Sequential | nn.ModuleList)
            is_large = sum(parameter.numel() for parameter in own) >= LEAST_PARAMETERS
            if child in inside or is_container or not is_large or any(id(parameter) in shared for parameter in own):
                continue
            found.append(child)
            inside |= set(child.modules())
    return found


def _shared_parameters(network: nn.Module) -> set[int]:
    """Parameters that several modules have, which stay with the whole."""
    seen: set[int] = set()
    twice: set[int] = set()
    for module in network.modules():
        for parameter in module.parameters(recurse=False):
            (twice if id(parameter) in seen else seen).add(id(parameter))
    return twice


def is_shared_out(tensor: Tensor) -> bool:
    """Whether a tensor lies in several processes, a part in each."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that is shared out, in every process, which all have to ask for it; others as they are."""
    gather = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else gather()


def shared_out_like(values: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, the same in all processes, shared out as another one of that shape; nothing is said for it."""
    if not is_shared_out(like):
        return values
    from torch.distributed.tensor import DTensor, Replicate

    placed: object = like
    assert isinstance(placed, DTensor)
    mesh = placed.device_mesh
    everywhere = DTensor.from_local(values.contiguous(), mesh, [Replicate()] * mesh.ndim, run_check=False)
    return everywhere.redistribute(mesh, placed.placements)


@torch.no_grad()
def joint_norm(tensors: Sequence[Tensor]) -> Tensor:
    """The norm of all tensors together, of what other processes hold of them, too; a scalar."""
    if not tensors:
        return torch.zeros(())
    return torch.stack([whole(norm) for norm in torch._foreach_norm(list(tensors))]).norm()
