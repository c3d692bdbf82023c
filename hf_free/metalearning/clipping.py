"""Gradients of an outer update cut down to a norm (Pascanu et al. 2013)."""

from __future__ import annotations

from typing import TypeVar

import torch

from hf_free.errors import RunError
from hf_free.runtime.sharding import joint_norm

AnyOptimizer = TypeVar("AnyOptimizer", bound=torch.optim.Optimizer)


def clip_gradients(optimizer: AnyOptimizer, most: float | None) -> AnyOptimizer:
    """Have the gradients of each update cut down before it.

    Args:
        optimizer: Gets a hook; the norm is that of all its parameters' gradients together.
        most: `bell.max_grad_norm`; None leaves them as they are.

    Returns:
        The same optimizer. Its `step` raises `RunError` where the norm is not finite, before anything is updated.
    """

    @torch.no_grad()
    def clip(*_: object) -> None:
        assert most is not None
        every = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        gradients = [parameter.grad for parameter in every if parameter.grad is not None]
        norm = joint_norm(gradients).item()
        if not norm < float("inf"):
            raise RunError(
                f"the norm of the learner's gradient is {norm}",
                allowed="a finite one; nothing was updated with it",
                action="lower --set bell.lr=..., or --mixed-precision no; the run's folder keeps what there is",
            )
        if norm > most:
            torch._foreach_mul_(gradients, most / norm)

    if most is not None:
        optimizer.register_step_pre_hook(clip)
    return optimizer
