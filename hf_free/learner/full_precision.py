"""Heads compute in full precision, whatever autocast block they are called in.

In such a block matrix products are in bf16 or fp16, which is too coarse for the few numbers of a support set. A block
also keeps its low-precision copies of weights until it ends, so that gradient steps inside it never see their own
updates.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

Function = TypeVar("Function", bound=Callable[..., object])

LOW_PRECISION = (torch.float16, torch.bfloat16)


def without_autocast(device: torch.device) -> AbstractContextManager[None]:
    """A block in which operations on a device compute in the type of their inputs."""
    return torch.autocast(device.type, enabled=False)


def in_full_precision(function: Function) -> Function:
    """Run a function of tensors outside autocast; its fp16 and bf16 arguments become fp32."""

    @wraps(function)
    def run(*values: Any, **named: Any) -> Any:
        tensors = [value for value in _flat([*values, *named.values()]) if isinstance(value, Tensor)]
        if not tensors:
            return function(*values, **named)
        with without_autocast(tensors[0].device):
            return function(*map(_raised, values), **{name: _raised(value) for name, value in named.items()})

    return cast("Function", run)


def _flat(values: list[object]) -> list[object]:
    return [part for value in values for part in (value if isinstance(value, tuple) else (value,))]


def _raised(value: object) -> Any:
    """A value with its tensors, and those of a tuple, in fp32 at least."""
    if isinstance(value, Tensor) and value.dtype in LOW_PRECISION:
        return value.float()
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(_raised, value))
    return value
