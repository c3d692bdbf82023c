"""Chains: a step's work in parts, whose sum is the whole's wherever each is done."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hf_free.errors import RunError
from hf_free.runtime.chains import ONE_CHAIN, Chains
from hf_free.runtime.distributed import Ranks
from hf_free.runtime.launched import Launched
from hf_free.runtime.random_streams import RandomStreams


def _network():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 2))
    return network.to(memory_format=torch.channels_last)


def _loss(network, images):
    return network(images).square().sum()


def test_parts_are_nearly_equal_and_teachers_take_turns():
    assert Chains(3).sizes(8) == [3, 3, 2]
    assert sum(Chains(4).sizes(2)) == 2
    assert [Chains(2).of(teacher) for teacher in range(5)] == [0, 1, 0, 1, 0]
    second = Chains(4, ranks=Ranks(Launched(1, 2, 1, 2)))
    assert list(second.own) == [2, 3]
    assert [teacher for teacher in range(8) if second.of(teacher) in second.own] == [2, 3, 6, 7]


def test_chains_that_cannot_be_shared_out_are_refused():
    with pytest.raises(RunError, match=r"chains is 3, and there are 2 processes"):
        Chains(3, ranks=Ranks(Launched(0, 2, 0, 2)))


def test_the_gradient_is_the_sum_of_the_parts_and_statistics_are_their_mean():
    images = torch.rand(7, 3, 6, 6)
    sizes, (network, by_hand) = Chains(2).sizes(7), (_network(), _network())
    parts = images.split(sizes)

    def work(chain):
        loss = _loss(network, parts[chain])
        loss.backward()
        return loss

    total = Chains(2).step(network, work)

    before = {name: value.clone() for name, value in by_hand.state_dict().items()}
    seen, losses, gradients = [], 0.0, None
    for part in parts:
        by_hand.load_state_dict(before)
        loss = _loss(by_hand, part)
        own = torch.autograd.grad(loss, list(by_hand.parameters()))
        gradients = own if gradients is None else [a + b for a, b in zip(gradients, own, strict=True)]
        losses = losses + loss.item()
        seen.append((by_hand[1].running_mean.clone(), by_hand[1].running_var.clone()))
    assert total.item() == pytest.approx(losses, rel=1e-6)
    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
        assert torch.equal(parameter.grad, gradient)
        assert parameter.grad.stride() == parameter.stride()
    means, variances = zip(*seen, strict=True)
    assert torch.equal(network[1].running_mean, sum(means) / 2)
    assert torch.equal(network[1].running_var, sum(variances) / 2)
    assert network[1].num_batches_tracked == before["1.num_batches_tracked"] + 1


def test_one_chain_does_nothing_but_the_work():
    network = nn.Linear(2, 1)
    loss = ONE_CHAIN.step(network, lambda chain: torch.tensor(chain + 3.0))
    assert loss == 3
    assert network.weight.grad is None
    tensors = [torch.rand(2)]
    assert ONE_CHAIN.add_up([tensors])[0] is tensors[0]


def test_sums_of_lists_are_in_the_chains_order():
    rows = [[torch.tensor([1e8, 1.0]), torch.ones(2, 2)], [torch.tensor([1.0, 2.0]), torch.ones(2, 2)]]
    first, second = Chains(2).add_up(rows)
    assert torch.equal(first, rows[0][0] + rows[1][0])
    assert torch.equal(second, torch.full((2, 2), 2.0))


@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_what_is_not_finite_is_found_before_an_update_and_the_chain_named(broken):
    network = nn.Linear(2, 1)

    def work(chain):
        loss = network(torch.ones(1, 2)).sum()
        (loss * (torch.inf if chain == 1 and broken == "gradient" else 1)).backward()
        return loss * (torch.nan if chain == 1 and broken == "loss" else 1)

    with pytest.raises(RunError, match=r"gradient of chain 1 \(rank 0\) is not finite"):
        Chains(2).step(network, work)


def test_what_is_not_ours_draws_other_numbers_in_each_chain_and_the_same_again():
    streams = RandomStreams(1)
    chains, drawn = Chains(2, streams=streams), []
    for step in (1, 1, 2):
        streams.begin(step)
        drawn.append([torch.rand(3).tolist() for _ in chains.each()])
    assert drawn[0] == drawn[1]
    assert len({tuple(numbers) for of_step in drawn[1:] for numbers in of_step}) == 4
