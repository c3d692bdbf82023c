"""What is shared out over processes is whole again when it is asked for; what is not stays as it is."""

from __future__ import annotations

import json

import pytest
import torch
from ranks import run_ranks

from hf_free.runtime.sharding import is_shared_out, joint_norm, shared_out_like, whole


def test_a_plain_tensor_is_whole_already():
    tensor = torch.rand(3)
    assert not is_shared_out(tensor)
    assert whole(tensor) is tensor
    assert shared_out_like(tensor, torch.rand(3)) is tensor


def test_the_joint_norm_is_that_of_one_long_vector():
    tensors = [torch.tensor([[3.0, 4.0]]), torch.tensor(12.0)]
    assert joint_norm(tensors).item() == pytest.approx(13.0)
    assert joint_norm([]).item() == 0.0


SHARES = """
import json
import torch
from torch import nn
from hf_free.runtime import sharding
from hf_free.runtime.distributed import connect
from hf_free.runtime.launched import Launched
from hf_free.metalearning.muon import Muon

here, found = Launched.here(), {}
ranks = connect(Launched.here(), "cpu")

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(nn.Linear(20, 400), nn.Linear(400, 400), nn.Linear(400, 400))
        self.last = nn.Linear(400, 3)
    def answers(self, x):
        return self.last(self.blocks(x))

def make():
    torch.manual_seed(0)
    return Network()

plain, shared = make(), sharding.shard(make(), torch.device("cpu"), methods=["answers"])
parameters, own = list(shared.parameters()), list(plain.parameters())
found["share"] = sum(p.to_local().numel() for p in parameters) / sum(p.numel() for p in own)
found["sharded blocks"] = sum(type(m).__name__.startswith("FSDP") for m in shared.modules())
batches = torch.randn(2, 5, 20, generator=torch.Generator().manual_seed(1))
both = [Muon(ps, matrix_lr=0.1, lr=0.1, weight_decay=0.01) for ps in (parameters, own)]
for _ in range(2):
    for optimizer in both:
        optimizer.zero_grad()
    (2 * shared.answers(batches[here.rank]).square().mean()).backward()  # the mean over two is taken: their sum
    sum(plain.answers(batch).square().mean() for batch in batches).backward()
    gradients = [sharding.whole(p.grad) for p in parameters]
    found["gradients"] = max((g - p.grad).abs().max().item() for g, p in zip(gradients, own))
    found["norm"] = abs(sharding.joint_norm([p.grad for p in parameters]).item()
                        / sharding.joint_norm([p.grad for p in own]).item() - 1)
    for optimizer in both:
        optimizer.step()
found["weights"] = max((sharding.whole(p.detach()) - q).abs().max().item() for p, q in zip(parameters, own))
again = sharding.shared_out_like(own[2].detach(), parameters[2])
found["again"] = torch.equal(sharding.whole(again), own[2])
found["again"] &= again.to_local().shape == parameters[2].to_local().shape

part = parameters[0].detach()
found["part"] = [part.abs().sum().item(), part.to_local().abs().sum().item(), sharding.whole(part).abs().sum().item()]
shared.answers(batches[0]).square().mean().backward(create_graph=True)
found["graph"] = any(p.grad.requires_grad for p in parameters)
try:
    torch.autograd.grad(shared.answers(batches[0]).square().mean(), parameters, create_graph=True)
    found["second"] = "taken"
except RuntimeError:
    found["second"] = "refused"
print(json.dumps(found), flush=True)
"""


def test_two_processes_with_half_of_the_weights_each_do_what_one_does(forks):
    ended = run_ranks(forks, SHARES)
    assert [one.returncode for one in ended] == [0, 0], ended
    for one in ended:
        found = json.loads(one.stdout.splitlines()[-1])
        assert found["share"] == pytest.approx(0.5, abs=0.01)
        assert found["sharded blocks"] == 3  # two large ones, and what is left
        assert found["gradients"] < 1e-5
        assert found["norm"] < 1e-5
        assert found["weights"] < 1e-5
        assert found["again"]
        shown, own_part, whole = found["part"]
        assert shown == own_part < whole  # why `whole` comes before `item`
        assert not found["graph"]  # why objectives with second derivatives refuse to be shared out
        assert found["second"] == "refused"
