"""Adapting the whole network, against gradient steps written out."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from learners import make, pictures

from hf_free.learner.heads import fit_nearest_mean
from hf_free.learner.maml import fine_tune

LABELS = torch.tensor([0, 1, 0, 2, 1, 2])


def written_out(learner, images, steps, lr):
    """Steps of torch.optim.SGD on a copy, from the head of the nearest class means."""
    network = copy.deepcopy(learner).eval().requires_grad_(True)
    with torch.no_grad():
        weight, bias = fit_nearest_mean(network.prepare_features(network.features(images))[None], LABELS[None], 3)
    weight, bias = weight[0].clone().requires_grad_(), bias[0].clone().requires_grad_()
    optimizer = torch.optim.SGD([weight, bias, *network.parameters()], lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        features = network.prepare_features(network.features(images))
        F.cross_entropy(features @ weight.T + bias, LABELS).backward()
        optimizer.step()
    return network, weight.detach(), bias.detach()


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_steps_are_those_of_plain_gradient_descent(steps):
    learner, images = make("conv4_32"), pictures().float() / 255
    adapted, classifier = fine_tune(learner, images, LABELS, 3, steps=steps, lr=0.05)
    network, weight, bias = written_out(learner, images, steps, 0.05)
    torch.testing.assert_close(classifier.weight[0], weight, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(classifier.bias[0], bias, atol=1e-5, rtol=1e-4)
    expected = dict(network.named_parameters())
    for name, parameter in adapted.named_parameters():
        torch.testing.assert_close(parameter, expected[name], atol=1e-5, rtol=1e-4, check_device=False)


def test_the_network_itself_stays_as_it_is():
    learner, images = make("conv4_32"), pictures().float() / 255
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    adapted, _ = fine_tune(learner, images, LABELS, 3)
    assert all(torch.equal(before[name], value) for name, value in learner.state_dict().items())
    assert not all(map(torch.equal, learner.parameters(), adapted.parameters()))
    assert not any(parameter.requires_grad for parameter in adapted.parameters())
