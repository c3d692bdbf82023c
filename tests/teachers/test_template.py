"""Networks filled with weights at once are what `load_state_dict` makes of them; what does not fit is left to it."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import nn

from hf_free.backbones.conv4 import Conv4
from hf_free.teachers.template import Template, without_memory


def _template(network: nn.Module) -> Template:
    return Template(copy.deepcopy(network, without_memory(network.state_dict(keep_vars=True))))


def _weights(network: nn.Module, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.rand(value.shape, generator=generator) if value.is_floating_point() else value.clone()
        for key, value in network.state_dict().items()
    }


@pytest.mark.parametrize("name", ["conv4_32", "test_resnet", "test_vit"])
def test_a_filled_network_holds_the_weights_in_their_places(name):
    network = timm.create_model(name, num_classes=4).eval()
    template = _template(network)
    first, second = (template.filled(_weights(network, seed)) for seed in (0, 1))
    plain = copy.deepcopy(network)
    plain.load_state_dict(_weights(network, 0))
    found, expected = first.state_dict(), plain.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert [n for n, _ in first.named_parameters()] == [n for n, _ in plain.named_parameters()]
    assert all(value.is_contiguous(memory_format=torch.channels_last) for value in found.values() if value.dim() == 4)
    assert not {id(part) for part in first.modules()} & {id(part) for part in second.modules()}
    images = torch.rand(2, 3, *[plain.pretrained_cfg["input_size"][1]] * 2)
    with torch.no_grad():
        torch.testing.assert_close(first(images), plain(images))


@pytest.mark.parametrize(
    "change",
    [
        lambda weights: weights.pop("head.bias"),
        lambda weights: weights.update(other=torch.zeros(1)),
        lambda weights: weights.update({"head.bias": torch.zeros(5)}),
        lambda weights: weights.update({"head.bias": torch.zeros(4, dtype=torch.float16)}),
    ],
)
def test_weights_that_are_not_just_its_own_are_refused(change):
    network = Conv4(num_classes=4)
    weights = _weights(network, 0)
    change(weights)
    assert _template(network).filled(weights) is None


class _LoadsItsOwnWay(Conv4):
    def _load_from_state_dict(self, *arguments: object) -> None:
        super()._load_from_state_dict(*arguments)


def test_a_module_with_its_own_way_of_loading_is_left_to_it():
    hooked = Conv4(num_classes=4)
    hooked.register_load_state_dict_post_hook(lambda module, keys: None)
    for network in (_LoadsItsOwnWay(num_classes=4), hooked):
        assert _template(network).filled(_weights(network, 0)) is None


def test_a_copys_dictionaries_are_its_own_and_one_under_two_names_stays_one():
    network = Conv4(num_classes=4)
    network.pretrained_cfg = network.default_cfg = {"input_size": (3, 32, 32), "mean": (0.5,)}
    network.nested = {"values": [1]}
    first, second = (_template(network).filled(_weights(network, seed)) for seed in (0, 1))
    assert first.pretrained_cfg == network.pretrained_cfg
    assert first.pretrained_cfg is first.default_cfg
    first.pretrained_cfg["mean"] = None
    first.nested["values"].append(2)
    assert second.pretrained_cfg["mean"] == (0.5,)
    assert (second.nested, network.nested) == ({"values": [1]}, {"values": [1]})
