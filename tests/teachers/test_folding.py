"""Networks that are only asked: folded BatchNorm gives the same numbers, and leaves the network alone."""

from __future__ import annotations

import threading

import pytest
import timm
import torch
from pico import pico_teacher
from torch import nn

from hf_free.data.logits import LogitLayout
from hf_free.runtime.device import Precision
from hf_free.teachers.folding import fold_batchnorm, own_bytes
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.saving import build_teacher, record_for
from hf_free.teachers.soft_labels import label, teacher_sources
from hf_free.teachers.teacher import Teacher


def _trained(network):
    """Statistics and weights as after training, so that a fold that forgets one of them is seen."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in ((module.running_mean, -0.5, 0.5), (module.running_var, 0.5, 2.0)):
                tensor.copy_(low + (high - low) * torch.rand(tensor.shape, generator=generator))
            if module.affine:
                module.weight.data.copy_(torch.rand(module.weight.shape, generator=generator) - 0.3)  # negative ones
                module.bias.data.copy_(torch.rand(module.bias.shape, generator=generator) - 0.5)
    return network.eval()


def _network(name):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return _trained(timm.create_model(name, num_classes=4))


@pytest.mark.parametrize("name", ["conv4_32", "resnet10_small", "test_resnet", "test_efficientnet"])
@torch.no_grad()
def test_a_folded_network_answers_alike_and_the_network_stays_as_it_is(name):
    network, images = _network(name), torch.randn(3, 3, 32, 32)
    before, state = network(images), {key: value.clone() for key, value in network.state_dict().items()}
    folded = fold_batchnorm(network)
    torch.testing.assert_close(folded(images), before, rtol=1e-4, atol=1e-5 * before.abs().max().item())
    assert torch.equal(network(images), before)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert not [m for m in folded.modules() if type(m) is nn.BatchNorm2d]
    assert 0 < own_bytes(folded, network) < sum(p.numel() * p.element_size() for p in network.parameters())


def test_pooling_comes_before_relu():
    folded = fold_batchnorm(_network("conv4_32"))
    order = [type(folded.get_submodule(n.target)).__name__ for n in folded.graph.nodes if n.op == "call_module"]
    assert order[:3] == ["Conv2d", "HalvingPool", "ReLU"]


@pytest.mark.parametrize("pool", [nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(2, 1), nn.MaxPool2d(2, ceil_mode=True)])
@torch.no_grad()
def test_other_windows_are_taken_before_relu_as_they_are(pool):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = _trained(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), pool))
    images, folded = torch.randn(2, 3, 9, 9), fold_batchnorm(network)
    torch.testing.assert_close(folded(images), network(images), rtol=1e-5, atol=1e-6)
    assert [type(m).__name__ for m in folded.modules()].count("MaxPool2d") == 1


def test_images_in_parts_are_answered_alike():
    pool = _pool(count=1)
    images = torch.rand(300, 3, 16, 16)  # more than 256 of that size, which is a part
    with torch.no_grad():
        whole, parts = pool[0].logits(images), pool[0].labels(images)
    assert parts.shape == (300, 3)
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)


class Branches(nn.Module):
    """What must not be folded or moved: an output that two layers take, a layer used twice, other weights."""

    def __init__(self):
        super().__init__()
        self.first, self.twice, self.bn = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.other, self.act, self.pool = nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)
        self.alone, self.last = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x):
        x = self.first(x)
        x = self.bn(x) + x
        x = self.other(self.twice(self.twice(x)))
        seen = self.act(x)
        x = self.pool(seen).mean((2, 3)) + seen.mean((2, 3))
        return self.last(self.alone(x[:, :, None, None])).flatten(1)


@torch.no_grad()
def test_only_pairs_that_belong_to_each_other_are_folded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = _trained(Branches())
    images = torch.randn(5, 3, 8, 8)
    folded = fold_batchnorm(network)
    torch.testing.assert_close(folded(images), network(images), rtol=1e-5, atol=1e-5)
    assert not hasattr(folded, "last")  # the one that can be
    assert isinstance(folded.bn, nn.BatchNorm2d)
    assert isinstance(folded.other, nn.BatchNorm2d)


def test_nothing_to_fold():
    assert fold_batchnorm(_network("test_vit")) is None

    class Untraceable(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)

        def forward(self, x):
            return self.bn(self.conv(x)) if x.mean() > 0 else x

    assert fold_batchnorm(Untraceable().eval()) is None


# ---- a teacher that is asked

EXACT = Precision()


def _pool(budget=None, count=2):
    teachers = [pico_teacher("conv4", num_classes=3, size=16, seed=seed) for seed in range(count)]
    for teacher in teachers:
        _trained(teacher.network)
    pool = TeacherPool.from_teachers(teachers)
    pool.budget = pool.budget if budget is None else round(budget * pool.records[0].weight_bytes)
    return pool


def _ask(pool, precision=EXACT):
    layout = LogitLayout.of([3] * len(pool))
    images = torch.randint(256, (9, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return label(teacher_sources(pool, layout), images, layout, precision).values.float(), images


@pytest.mark.parametrize("name", ["no", "bf16"])
def test_a_folded_teacher_answers_within_rounding(name):
    precision = Precision.choose(name, torch.device("cpu"))
    pool = _pool()
    found, images = _ask(pool, precision)
    assert all(teacher.folded_bytes for teacher in pool)
    with torch.no_grad():
        expected = torch.cat([teacher.logits(images.float() / 255) for teacher in pool], 1)
    tolerance = 2e-3 if name == "no" else 0.05
    assert (found - expected).norm() / expected.norm() < tolerance


@pytest.mark.parametrize("name", ["conv4_32", "test_resnet", "test_efficientnet", "test_vit"])
@torch.no_grad()
def test_a_faster_teacher_gives_the_same_logits_and_features(name):
    network = _network(name)
    teacher = build_teacher(network, record_for(network))
    images = torch.rand((40, *teacher.record.input_size), generator=torch.Generator().manual_seed(2))
    before = teacher(images)
    faster = teacher.faster()
    assert (faster is teacher) == (name == "test_vit"), "it has nothing to fold"
    found = faster(images)
    for one, other in zip(found, before, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * other.abs().max().item())
    assert torch.equal(faster.logits(images[:3]), faster(images[:3]).logits)
    assert torch.equal(faster.features(images[:3]), faster(images[:3]).features)
    assert all(torch.equal(one, other) for one, other in zip(teacher(images), before, strict=True))


def test_batchnorm_statistics_stay_those_of_the_network():
    """Inversion hooks these layers, before and after a teacher was asked."""
    pool = _pool()
    layers = [layer.running_mean.clone() for teacher in pool for layer in teacher.batchnorm_layers()]
    _ask(pool)
    after = [layer.running_mean for teacher in pool for layer in teacher.batchnorm_layers()]
    assert len(layers) == len(after) > 0
    assert all(torch.equal(one, other) for one, other in zip(layers, after, strict=True))
    images = torch.rand(4, 3, 16, 16, requires_grad=True)
    pool[0].logits(images).sum().backward()
    assert images.grad.abs().sum() > 0


def test_copies_count_in_the_budget_and_need_room():
    pool = _pool()
    weights = sum(record.weight_bytes for record in pool.records)
    assert pool.loaded_bytes == weights
    _ask(pool)
    assert pool.loaded_bytes == weights + sum(teacher.folded_bytes for teacher in pool) <= pool.budget
    tight = _pool(budget=2.0)
    expected = torch.cat([t.logits(_ask(tight)[1].float() / 255) for t in tight], 1)
    assert not any(teacher.folded_bytes for teacher in tight)  # the weights alone fill it
    torch.testing.assert_close(_ask(tight)[0], expected.detach(), rtol=2e-3, atol=2e-3)


def test_a_copy_that_answers_otherwise_is_not_used(monkeypatch):
    def wrong(network):
        folded = fold_batchnorm(network)
        folded.register_forward_hook(lambda module, inputs, output: output.flip(1))
        return folded

    monkeypatch.setattr("hf_free.teachers.teacher.fold_batchnorm", wrong)
    pool = _pool()
    found, images = _ask(pool)
    assert not any(teacher.folded_bytes for teacher in pool)
    with torch.no_grad():
        expected = torch.cat([teacher.logits(images.float() / 255) for teacher in pool], 1)
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)


def test_weights_of_16_bits_and_moved_teachers_answer_themselves():
    teacher = pico_teacher("conv4", num_classes=3, size=16)
    half = Teacher(teacher.network.half(), teacher.record)
    half.fold(Precision())
    assert half.is_tried
    assert not half.folded_bytes
    teacher = pico_teacher("conv4", num_classes=3, size=16)
    teacher.fold(Precision())
    assert teacher.folded_bytes
    assert not teacher.to(torch.device("cpu")).is_tried  # made anew where it is now


def test_other_threads_may_ask_and_fold_while_a_network_is_traced():
    """torch.fx (2.14.1) sends every module's calls through the tracer meanwhile, whichever thread makes them."""
    begun, done = threading.Event(), threading.Event()

    class Waiting(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))

        def forward(self, x):
            begun.set()
            assert done.wait(30)
            return self.first(x)

    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    images, found = torch.rand(2, 3, 8, 8), []
    expected = other(images)

    def ask():
        assert begun.wait(30)
        try:
            found.append(other(images))
        finally:
            done.set()

    def fold():
        assert begun.wait(30)
        found.append(fold_batchnorm(other))

    threads = [threading.Thread(target=ask), threading.Thread(target=fold)]
    for thread in threads:
        thread.start()
    call = nn.Module.__call__
    folded = fold_batchnorm(Waiting().eval())
    for thread in threads:
        thread.join()
    assert nn.Module.__call__ is call
    answers = [one if isinstance(one, torch.Tensor) else one(images) for one in found]
    assert len(answers) == 2
    assert all(torch.allclose(one, expected, atol=1e-5) for one in answers)
    assert folded(images).shape == (2, 4, 6, 6)
