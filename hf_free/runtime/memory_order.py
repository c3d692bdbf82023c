"""Optimizers whose moments and gradients lie in memory as their parameters do.

Fused Adam, AdamW and SGD walk through memory, not through indices: a moment or a gradient of other strides than its
parameter is added to the wrong weights, silently (torch 2.14 on CPUs). It happens where a checkpoint goes on in
another memory format, and where a gradient is not backward's own work but `torch.autograd.grad`'s.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

AnyOptimizer = TypeVar("AnyOptimizer", bound=torch.optim.Optimizer)


def keep_memory_order(optimizer: AnyOptimizer) -> AnyOptimizer:
    """Give each gradient before a step, and each moment that is loaded, its parameter's strides.

    Args:
        optimizer: Gets two hooks.

    Returns:
        The same optimizer.
    """
    optimizer.register_step_pre_hook(_order_gradients)
    optimizer.register_load_state_dict_post_hook(_order_moments)
    return optimizer


def like_in_memory(tensor: Tensor, parameter: Tensor) -> Tensor:
    """The same values in the memory order of a parameter of that shape; the tensor itself where it has it already."""
    if tensor.stride() == parameter.stride():
        return tensor
    return torch.empty_like(parameter, dtype=tensor.dtype, device=tensor.device).copy_(tensor)


@torch.no_grad()
def _order_gradients(optimizer: torch.optim.Optimizer, *_: object) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            gradient = parameter.grad
            if gradient is not None and gradient.layout == torch.strided:
                ordered = like_in_memory(gradient, parameter)
                if ordered is not gradient:
                    parameter.grad = ordered


@torch.no_grad()
def _order_moments(optimizer: torch.optim.Optimizer) -> None:
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                state[name] = like_in_memory(value, parameter)
