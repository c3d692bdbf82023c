"""Fused optimizers walk through memory: moments and gradients must lie as their parameters do."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hf_free.config.sections import BellConfig, FiveConfig, LearnerConfig
from hf_free.data.logit_rows import LogitRows
from hf_free.data.logits import LogitLayout
from hf_free.inversion.five import Five
from hf_free.learner.meta_learner import MetaLearner
from hf_free.memory.bank import TaskMemory
from hf_free.metalearning.base import Moment
from hf_free.metalearning.distill import Distiller
from hf_free.runtime.device import Precision
from hf_free.runtime.memory_order import keep_memory_order

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
PICTURES = torch.rand(4, 4, 8, 8, generator=torch.Generator().manual_seed(0))

Make = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
OPTIMIZERS: dict[str, Make] = {
    "adam": lambda weights: torch.optim.Adam(weights, lr=0.1, fused=True),
    "adamw": lambda weights: torch.optim.AdamW(weights, lr=0.1, fused=True),
    "sgd": lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9, fused=True),
}


def network(memory_format: str) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(4, 6, 3).to(memory_format=FORMATS[memory_format])  # type: ignore[call-overload]


def step(net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    net(PICTURES).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(("begun", "resumed"), [("contiguous", "channels_last"), ("channels_last", "contiguous")])
def test_moments_are_resumed_in_another_memory_format(name: str, begun: str, resumed: str) -> None:
    found = []
    for memory_format in (begun, resumed):
        net = network(begun)
        optimizer = keep_memory_order(OPTIMIZERS[name](list(net.parameters())))
        for _ in range(2):
            step(net, optimizer)
        other = network(memory_format)
        other.load_state_dict(net.state_dict())
        continued = keep_memory_order(OPTIMIZERS[name](list(other.parameters())))
        continued.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        for _ in range(2):
            step(other, continued)
        found.append(other.weight.detach())
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_gradients_of_other_strides_are_followed_as_they_are_meant(name: str) -> None:
    found = []
    for is_fused in (True, False):
        net = network("contiguous")
        weights = list(net.parameters())
        optimizer = OPTIMIZERS[name](weights)
        if is_fused:
            keep_memory_order(optimizer)
        else:  # plain computation, which goes by indices
            for group in optimizer.param_groups:
                group["fused"], group["foreach"] = False, False
        gradients = torch.autograd.grad(net(PICTURES).square().sum(), weights)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = strided_otherwise(gradient)
        optimizer.step()
        found.append(net.weight.detach())
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


def strided_otherwise(gradient: Tensor) -> Tensor:
    return gradient.contiguous(memory_format=torch.channels_last) if gradient.ndim == 4 else gradient


def test_the_learners_optimizer_goes_on_in_another_memory_format() -> None:
    """Two updates of `Distiller`, saved, then two more in the same format or in the other one."""
    torch.manual_seed(1)
    memory = TaskMemory(16, sizes=[3])
    pictures = torch.randint(0, 256, (16, 3, 16, 16), dtype=torch.uint8)
    memory.add_pictures(pictures, LogitRows(torch.randn(16, 3).half(), (3,)))
    config = BellConfig(batch_size=16, updates_per_step=1, matrix_lr=0.0)
    found = []
    for resumed_in_last in (True, False):
        first = distiller(config, channels_last=True)
        torch.manual_seed(2)
        first.step([], memory, Moment())
        second = distiller(config, channels_last=resumed_in_last)
        second.learner.load_state_dict(first.learner.state_dict())
        second.optimizer.load_state_dict(copy.deepcopy(first.optimizer.state_dict()))
        torch.manual_seed(3)
        second.step([], memory, Moment())
        found.append(second.learner.backbone.state_dict()["blocks.1.conv.weight"].clone())
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-4)


def distiller(config: BellConfig, *, channels_last: bool) -> Distiller:
    torch.manual_seed(0)
    learner = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16), backbone={"width": 8})
    learner.embedding.projection = nn.Linear(learner.backbone_dim, 3)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    learner.backbone.to(memory_format=layout)  # type: ignore[call-overload]
    return Distiller(learner, LogitLayout.of([3]), config, Precision(None, channels_last))


def test_the_meta_generators_optimizer_takes_moments_of_other_strides() -> None:
    torch.manual_seed(0)
    five = Five(FiveConfig(latent_dim=8, width=4), image_size=16)
    for weight in five.generator.parameters():
        weight.grad = torch.randn_like(weight)
    five.optimizer.step()
    state = copy.deepcopy(five.optimizer.state_dict())
    for moments in state["state"].values():
        moments["exp_avg"] = moments["exp_avg"].contiguous()  # as another version may have saved them
    five.optimizer.load_state_dict(state)
    for weight, moments in five.optimizer.state.items():
        assert moments["exp_avg"].stride() == weight.stride()
