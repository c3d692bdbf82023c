"""Cost of a network's forward and backward pass in floating-point operations.

Matrix products and convolutions are counted (attention's products among them), two operations per multiply-add, as by
`torch.utils.flop_counter` (but see `_convolution_backward`). Not counted: normalization, activations, pooling,
additions, resizing, the optimizer; in the networks used here they are a few percent of the arithmetic.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hf_free.backbones.model_args import ModelArgs
from hf_free.provenance.reading import Json
from hf_free.runtime.text import with_prefix
from hf_free.teachers.teacher import Teacher

PUBLISHED = {
    "Conv-4": ("conv4_64", {32: 0.03, 84: 0.23, 224: 1.63}),
    "ResNet-18": ("resnet18_small", {32: 1.12, 84: 7.87, 224: 54.67}),
    "ResNet-50": ("resnet50_small", {32: 2.62, 84: 18.36, 224: 128.34}),
}
"""GFLOPs of one image's backward pass by image size, with which FREE (Wei et al., CVPR 2024) motivates its few steps,
and our closest network: ResNets with a 3x3 stem and no max-pool; for Conv-4, 64 filters, 1.06 to 1.18 below."""


@dataclass(frozen=True)
class Cost:
    """Operations for one image, or for one batch of the size counted."""

    forward_flops: int
    backward_flops: int

    @property
    def total_flops(self) -> int:
        """Forward and backward together."""
        return self.forward_flops + self.backward_flops

    def __mul__(self, times: int) -> Cost:
        return Cost(self.forward_flops * times, self.backward_flops * times)

    __rmul__ = __mul__

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.forward_flops + other.forward_flops, self.backward_flops + other.backward_flops)


def count(
    network: nn.Module,
    input_size: Sequence[int] | None = None,
    *,
    input_gradient_only: bool = False,
    batch_size: int = 1,
) -> Cost:
    """Count the operations of a forward and a backward pass, without computing anything where possible.

    Args:
        network: A network, or a `Teacher` (then its own network and input size are counted).
        input_size: (channels, height, width), or the shape of any other input without the batch; a teacher knows it.
        input_gradient_only: Whether the weights are frozen, so that only the gradient toward the image is computed:
            for a stack of convolutions about as much as the forward pass. Otherwise both gradients are counted: the
            weights' and the input's, the first layer's input gradient included.
        batch_size: Images at once; the cost is proportional to it.

    Returns:
        Operations for `batch_size` images; none for a black box, which computes elsewhere, and none for the backward
        pass of a network of which no gradient comes back.
    """
    if isinstance(network, Teacher):
        if network.record.answers_only:
            return Cost(0, 0)
        with network.failing_by_name():
            return count(network.network, network.record.input_size, input_gradient_only=True, batch_size=batch_size)
    if input_size is None:
        raise ValueError("input_size is missing; allowed: (channels, height, width), or a Teacher as the network")
    shape = (batch_size, *input_size)
    try:
        return _count(copy.deepcopy(network).to("meta"), shape, "meta", input_gradient_only)
    except Exception:  # some networks look at values while they run, which the meta device does not have
        try:
            return _count(copy.deepcopy(network).to("cpu"), shape, "cpu", input_gradient_only)
        except AttributeError:  # torch's counter stumbles over what a network gives out of inference_mode
            with torch.no_grad():
                return _count(copy.deepcopy(network).to("cpu"), shape, "cpu", input_gradient_only, inputs_learn=False)


def published_rows() -> list[Json]:
    """The published table beside our count, one row per network and image size; GFLOPs of the backward pass."""
    import timm

    import hf_free.backbones.register  # noqa: F401  (registers the networks with timm)

    rows = []
    for name, (architecture, published) in PUBLISHED.items():
        for size, gigaflops in published.items():
            sized: ModelArgs = {"img_size": size} if architecture.startswith("conv4") else {}
            with torch.device("meta"):
                network = timm.create_model(architecture, num_classes=5, **sized)
            cost = count(network, (3, size, size), input_gradient_only=True)
            row = {"network": name, "architecture": architecture, "image_size": size, "published": gigaflops}
            rows.append(row | {"counted": cost.backward_flops / 1e9})
    return rows


def operations(number: float) -> str:
    """Operations in words: three digits and a decimal prefix."""
    return with_prefix(number / 1e3, (" kFLOP", " MFLOP", " GFLOP", " TFLOP", " PFLOP", " EFLOP"))


def _count(
    network: nn.Module, shape: tuple[int, ...], device: str, input_gradient_only: bool, *, inputs_learn: bool = True
) -> Cost:
    network.eval().float().requires_grad_(not input_gradient_only)
    inputs = torch.zeros(shape, device=device, requires_grad=inputs_learn)
    # Fused attention kernels are not all counted; the plain one is, product by product.
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        with FlopCounterMode(display=False) as forward:
            output = network(inputs)
        outputs = output if isinstance(output, tuple | list) else (output,)
        formulas = {torch.ops.aten.convolution_backward: _convolution_backward}
        with FlopCounterMode(display=False, custom_mapping=formulas) as backward:
            total = torch.stack([o.sum() for o in outputs]).sum()
            if total.requires_grad:
                total.backward()
    return Cost(forward.get_total_flops(), backward.get_total_flops())


def _convolution_backward(
    grad_out_shape: Sequence[int],
    x_shape: Sequence[int],
    w_shape: Sequence[int],
    *rest: Any,
    out_shape: object = None,
    **options: Any,
) -> int:
    """Operations of a convolution's backward pass: each gradient asked for costs what the forward pass costs.

    torch's own formula counts the weight gradient of a grouped convolution as that of a dense one, too much by a
    factor of the number of groups.
    """
    # The operator's arguments after the weight: bias, stride, padding, dilation, transposed, output padding, groups,
    # and which of (input, weight, bias) gradients are wanted.
    transposed, wanted = rest[4], rest[7]
    positions = math.prod((x_shape if transposed else grad_out_shape)[2:])
    one_gradient = 2 * grad_out_shape[0] * positions * math.prod(w_shape)
    return one_gradient * sum(map(bool, wanted[:2]))
