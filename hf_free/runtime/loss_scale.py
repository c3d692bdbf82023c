"""A factor on the loss, so that small gradients do not become zero in fp16 (Micikevicius et al. 2018, section 3.2).

As torch's GradScaler chooses it. That one steps the optimizer itself, and looks at the gradients of one process; here
what all chains of a run have found is looked at once it is added up, so that all processes scale alike.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from hf_free.errors import RunError
from hf_free.runtime.sharding import joint_norm

FIRST, LEAST = 2.0**16, 2.0**-8
"""The factor at first, as GradScaler's, and that below which it is not the factor that keeps gradients from being
finite."""

PATIENCE = 2000
"""Updates in a row after which the factor is doubled (GradScaler)."""


class LossScale:
    """The factor, which halves where a gradient is not finite and doubles after many that are."""

    def __init__(self) -> None:
        self.factor, self.since = FIRST, 0

    @torch.no_grad()
    def unscale(self, parameters: Iterable[nn.Parameter]) -> bool:
        """Divide gradients by the factor.

        Returns:
            Whether all are finite; else the update is to be left out, and the factor is half of what it was. The
            device is waited for.

        Raises:
            RunError: they are not finite at any factor.
        """
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if not joint_norm(gradients).isfinite().item():
            self.factor, self.since = self.factor / 2, 0
            if self.factor < LEAST:
                raise RunError(
                    "the learner's gradient is not finite in fp16, however its loss is scaled",
                    allowed="finite numbers; nothing was updated with it",
                    action="--mixed-precision bf16 or no; the run's folder keeps what there is",
                )
            return False
        torch._foreach_mul_(gradients, 1 / self.factor)
        self.since += 1
        if self.since == PATIENCE:
            self.factor, self.since = 2 * self.factor, 0
        return True

    def state(self) -> Tensor:
        """What a checkpoint has to hold."""
        return torch.tensor([self.factor, float(self.since)], dtype=torch.float64)

    def load(self, state: Tensor) -> None:
        """Take back what `state` gave."""
        self.factor, self.since = state[0].item(), int(state[1].item())
