"""Muon: gradients of matrices are orthogonalized before they are followed, so that all directions learn equally fast.

Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024, kellerjordan.github.io/posts/muon);
convolution kernels are flattened to (out, in x height x width) as in Jordan's CIFAR-10 speed runs. torch.optim.Muon
takes two-dimensional parameters only, and a convolutional learner's are not. Everything that is not a matrix (biases,
norms, embeddings) is left to AdamW.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from hf_free.config.sections import BellConfig
from hf_free.runtime.sharding import shared_out_like, whole

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic a x + b x^3 + c x^5 that drives singular values toward 1 (Jordan et al. 2024)."""

ITERATIONS = 5
"""Iterations of that quintic: singular values end between about 0.7 and 1.2 (Jordan et al. 2024)."""

MOMENTUM = 0.9
"""Nesterov momentum; 0.95, Jordan's, ended slightly worse here (docs/experiments)."""


def orthogonalize(matrix: Tensor) -> Tensor:
    """The matrix (R, C) with all its singular values near 1: U V^T of U S V^T, by Newton-Schulz iteration.

    An iteration multiplies X by Q = a + b G + c G^2 of its Gram matrix G = X X^T, which turns G into Q G Q. So all of
    them are done on G, and X is multiplied once: half the time where a matrix is four times as wide as high.
    """
    a, b, c = COEFFICIENTS
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / (wide.norm() + 1e-7)
    gram, product = x @ x.T, torch.empty(0)
    for iteration in range(ITERATIONS):
        factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal().add_(a)
        product = factor @ product if iteration else factor
        if iteration < ITERATIONS - 1:
            gram = factor @ gram @ factor
    x = product @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


def is_matrix(parameter: Tensor) -> bool:
    """Whether a parameter maps many inputs to many outputs: a linear layer or a convolution that is not depthwise."""
    return parameter.ndim in (2, 4) and min(parameter.shape[:2]) > 1


def muon_or_adamw(
    parameters: Iterable[nn.Parameter],
    config: BellConfig,
    device: torch.device,
    *,
    last: Iterable[nn.Parameter] = (),
) -> torch.optim.Optimizer:
    """The optimizer of a network that is distilled into: `bell.matrix_lr` 0 leaves matrices to AdamW as well.

    Args:
        parameters: What is trained.
        config: Rates and weight decay.
        device: Where it is.
        last: Parameters of a last layer, beside them; AdamW's, as Jordan et al. leave them.
    """
    fused = device.type in ("cpu", "cuda")
    rate, decay = config.lr, config.weight_decay
    if not config.matrix_lr:
        return torch.optim.AdamW([*parameters, *last], lr=rate, weight_decay=decay, fused=fused)
    return Muon(parameters, last=last, matrix_lr=config.matrix_lr, lr=rate, weight_decay=decay, fused=fused)


class Muon(torch.optim.AdamW):
    """Muon for matrices, AdamW for the rest, in one optimizer.

    Args:
        parameters: Trainable parameters.
        last: More of them, all AdamW's.
        matrix_lr: Muon's rate: an update of a matrix has spectral norm of about this, times sqrt(rows / columns) where
            there are more rows than columns.
        lr: AdamW's rate for the rest.
        weight_decay: Decoupled, for both.
        fused: See `torch.optim.AdamW`.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        matrix_lr: float,
        lr: float,
        weight_decay: float,
        last: Iterable[nn.Parameter] = (),
        fused: bool | None = None,
    ) -> None:
        every = list(parameters)
        groups: list[dict[str, object]] = [
            {"params": [p for p in every if is_matrix(p)], "lr": matrix_lr, "orthogonal": True},
            {"params": [*(p for p in every if not is_matrix(p)), *last], "lr": lr, "orthogonal": False},
        ]
        super().__init__([g for g in groups if g["params"]], lr=lr, weight_decay=weight_decay, fused=fused)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of all parameters that have a gradient; matrices' gradients are used up."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group["orthogonal"]:
                for parameter in group["params"]:
                    self._step_matrix(parameter, group["lr"], group["weight_decay"])
        super().step()  # updates the others only: the matrices have no gradient any more
        return loss

    def _step_matrix(self, parameter: Tensor, lr: float, weight_decay: float) -> None:
        gradient = parameter.grad
        if gradient is None:
            return
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
            state["step"] = torch.zeros(())  # AdamW looks for one when a state is restored
        momentum = state["momentum"].mul_(MOMENTUM).add_(gradient)
        ahead = whole(gradient.add(momentum, alpha=MOMENTUM)).flatten(1)
        stretch = max(1.0, ahead.shape[0] / ahead.shape[1]) ** 0.5
        parameter.mul_(1 - lr * weight_decay)
        moved = shared_out_like(orthogonalize(ahead).view(parameter.shape), parameter)
        parameter.add_(moved, alpha=-lr * stretch)
        parameter.grad = None
