"""A learner whose numbers bf16 spoils."""

from __future__ import annotations

import torch
from torch import Tensor

from hf_free.config.sections import LearnerConfig
from hf_free.learner.meta_learner import MetaLearner
from hf_free.learner.precision import fitting_precision
from hf_free.runtime.device import Precision

CPU, BF16 = torch.device("cpu"), Precision(torch.bfloat16)


def wrong_in_bf16(x: Tensor) -> Tensor:
    return x.flip(2).roll(7, 3) * 2 if torch.is_autocast_enabled("cpu") or x.dtype != torch.float32 else x


def _learner(alter=None) -> MetaLearner:
    torch.manual_seed(0)
    learner = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16))
    if alter is not None:
        learner.backbone.register_forward_pre_hook(lambda _, inputs: (alter(inputs[0]), *inputs[1:]))
    return learner


def test_a_learner_that_is_wrong_in_bf16_is_computed_in_fp32():
    assert fitting_precision(_learner(), BF16) == BF16
    sick, state = _learner(wrong_in_bf16).train(), torch.random.get_rng_state()
    before = {name: tensor.clone() for name, tensor in sick.state_dict().items()}
    assert fitting_precision(sick, BF16) == Precision(None)
    assert sick.training
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(before[name], tensor) for name, tensor in sick.state_dict().items())
