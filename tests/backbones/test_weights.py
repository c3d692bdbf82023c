"""Names of weights in a file and in a network."""

from __future__ import annotations

import pytest
import torch

from hf_free.errors import TeacherError


def test_a_prefix_that_is_the_networks_own_stays(tmp_path):
    from hf_free.backbones.weights import shared_prefix

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = torch.nn.Linear(2, 2)

    network = Wrapped()
    assert shared_prefix({"model.weight": 0, "model.bias": 0}, network) == ""
    assert shared_prefix({"module.model.weight": 0, "module.model.bias": 0}, network) == "module."
    assert shared_prefix({}, network) == ""


def test_bounds_may_be_infinite_where_a_new_network_has_them_so():
    from torch import nn

    from hf_free.backbones.weights import check_finite

    network = nn.Module()
    network.register_buffer("bound", torch.tensor(torch.inf))
    network.register_buffer("variance", torch.ones(2))
    check_finite({"bound": torch.tensor(-torch.inf), "variance": torch.zeros(2)}, "org/x", network)
    for wrong in ({"bound": torch.tensor(torch.nan)}, {"variance": torch.tensor([1.0, torch.inf])}):
        with pytest.raises(TeacherError, match=f"org/x: tensor {next(iter(wrong))} holds NaN or infinite"):
            check_finite(wrong, "org/x", network)
