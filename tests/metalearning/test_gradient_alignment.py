"""Sequential steps: the Taylor identity behind them, the outer step, and the cosine that is logged."""

from __future__ import annotations

import copy
from functools import partial
from itertools import permutations

import pytest
import torch
from torch import nn

from hf_free.config.recipes import Defects
from hf_free.config.sections import BellConfig, LearnerConfig
from hf_free.inversion.task import Health, RecoveredTask
from hf_free.learner.inputs import InputSettings
from hf_free.learner.meta_learner import MetaLearner
from hf_free.memory.bank import TaskMemory
from hf_free.metalearning.base import Moment
from hf_free.metalearning.bell import RELEASED_GAIN, Aligner
from hf_free.metalearning.gradient_alignment import interpolate, pairwise_cosine, sequential_steps
from hf_free.runtime.device import Precision


class Point(nn.Module):
    """A network that is nothing but its weights."""

    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(size, dtype=torch.float64))


def _quadratics(count=4, size=3):
    """Losses 1/2 x^T H x - b^T x, as (H, b), and as functions of a network."""
    made = []
    for _ in range(count):
        root = torch.randn(size, size, dtype=torch.float64)
        made.append((root @ root.T / size, torch.randn(size, dtype=torch.float64)))
    losses = [lambda net, h=h, b=b: net.weight @ h @ net.weight / 2 - b @ net.weight for h, b in made]
    return made, losses


def test_taylor_identity_over_all_orders():
    """E[(theta - theta_n) / a] = grad[sum_i L_i - (a / 2) sum_{i<j} g_i . g_j] + O(a^2)."""
    torch.manual_seed(0)
    network = Point(3)
    quadratics, losses = _quadratics()
    theta = network.weight.detach()
    gradients = [h @ theta - b for h, b in quadratics]
    plain = sum(gradients)
    # the gradient of g_i . g_j for quadratics is H_i g_j + H_j g_i
    products = sum(
        quadratics[i][0] @ gradients[j] + quadratics[j][0] @ gradients[i] for i in range(4) for j in range(i + 1, 4)
    )
    errors, errors_without = [], []
    for a in (1e-2, 1e-3):
        moved = []
        for order in permutations(range(4)):
            clone, _ = sequential_steps(network, [losses[i] for i in order], partial(torch.optim.SGD, lr=a))
            moved.append((theta - clone.weight.detach()) / a)
        mean = torch.stack(moved).mean(0)
        errors.append((mean - (plain - a / 2 * products)).norm().item())
        errors_without.append((mean - plain).norm().item())
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.1)  # O(a^2)
    assert errors_without[0] / errors_without[1] == pytest.approx(10, rel=0.1)  # O(a): the products are needed
    assert errors[0] < errors_without[0] / 20


def test_sequential_steps_are_the_steps_by_hand_and_leave_the_network_alone():
    torch.manual_seed(0)
    network = Point(3)
    quadratics, losses = _quadratics(3)
    theta = network.weight.detach().clone()
    moved, seen = sequential_steps(network, losses, partial(torch.optim.SGD, lr=0.1))
    x, expected = theta.clone(), []
    for h, b in quadratics:
        expected.append((x @ h @ x / 2 - b @ x).item())
        x = x - 0.1 * (h @ x - b)
    assert torch.allclose(moved.weight, x)
    assert [loss.item() for loss in seen] == pytest.approx(expected)
    assert torch.equal(network.weight, theta)
    assert network.weight.grad is None
    assert not any(loss.requires_grad for loss in seen)


def test_only_the_clones_running_statistics_move():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).train()
    before = copy.deepcopy(network.state_dict())
    x = torch.randn(8, 4)
    moved, _ = sequential_steps(network, [lambda n: n(x).square().mean()] * 2, partial(torch.optim.SGD, lr=0.1))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not torch.equal(moved[1].running_mean, before["1.running_mean"])


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0, 1.5])
def test_interpolation(share):
    torch.manual_seed(0)
    network, moved = (nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)) for _ in range(2))
    moved[1].running_mean.normal_()
    moved[1].num_batches_tracked.fill_(7)
    expected = [p + share * (q - p) for p, q in zip(network.parameters(), moved.parameters(), strict=True)]
    interpolate(network, moved, share)
    assert all(torch.allclose(p, e, atol=1e-6) for p, e in zip(network.parameters(), expected, strict=True))
    assert torch.equal(network[1].running_mean, moved[1].running_mean)  # buffers are taken over whole
    assert network[1].num_batches_tracked == 7


def test_pairwise_cosine_by_hand():
    torch.manual_seed(0)
    network = Point(5)
    quadratics, losses = _quadratics(4, 5)
    g = [(h @ network.weight - b).detach().tolist() for h, b in quadratics]

    def cosine(u, v):
        dot = sum(x * y for x, y in zip(u, v, strict=True))
        return dot / (sum(x * x for x in u) * sum(y * y for y in v)) ** 0.5

    pairs = [cosine(g[i], g[j]) for i in range(4) for j in range(i + 1, 4)]
    assert pairwise_cosine(network, losses).item() == pytest.approx(sum(pairs) / 6)
    assert network.weight.grad is None


def test_pairwise_cosine_of_tasks_that_use_different_weights_is_zero():
    network = nn.ModuleList([nn.Linear(2, 1), nn.Linear(2, 1)])
    x = torch.randn(3, 2)
    losses = [lambda n: n[0](x).sum(), lambda n: n[1](x).sum()]
    assert pairwise_cosine(network, losses).item() == pytest.approx(0, abs=1e-7)


def test_measuring_the_cosine_leaves_no_trace():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.5)).train()
    before = copy.deepcopy(network.state_dict())
    losses = [lambda n: n(torch.randn(8, 4)).square().mean(), lambda n: n(torch.randn(8, 4)).abs().mean()]
    state = torch.get_rng_state()
    pairwise_cosine(network, losses)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_cosine_needs_two_tasks():
    with pytest.raises(ValueError, match=r"1 task\(s\)"):
        pairwise_cosine(Point(2), [lambda n: n.weight.sum()])


def test_sequential_steps_raise_inner_products_above_those_of_a_joint_step():
    """What the identity is for: both descend alike, the sequential ones end where gradients agree more."""
    torch.manual_seed(0)
    network, a = Point(3), 1e-2
    quadratics, losses = _quadratics()
    theta = network.weight.detach()

    def inner_products(x):
        gradients = [h @ x - b for h, b in quadratics]
        return sum(gradients[i] @ gradients[j] for i in range(4) for j in range(i + 1, 4)).item()

    joint = theta - a * sum(h @ theta - b for h, b in quadratics)
    ends = []
    for order in permutations(range(4)):
        clone, _ = sequential_steps(network, [losses[i] for i in order], partial(torch.optim.SGD, lr=a))
        ends.append(clone.weight.detach())
    assert inner_products(torch.stack(ends).mean(0)) > inner_products(joint)


# ---- the paper's BELL


def _task(teacher=0, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (4 * classes, 3, 16, 16), dtype=torch.uint8, generator=generator)
    soft = torch.randn(4 * classes, classes, generator=generator).softmax(1)
    labels = torch.arange(classes).repeat(4)
    return RecoveredTask(images, labels, soft, tuple(range(classes)), teacher, "t", Health(1.0, 0.1, 0.1))


def _aligner(defects=(), names=None, **values):
    torch.manual_seed(0)
    learner = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16), inputs=InputSettings(batchnorm="support"))
    config = BellConfig(**{"objective": "align", "replay_tasks": 0, "n_way": 5, **values})
    return Aligner(learner, config, Precision(), class_names=names, defects=Defects.named(defects))


def _weights(aligner):
    return torch.cat([p.detach().flatten() for p in aligner.network.parameters()])


def _moves(**options):
    """Weights before, at the end of the sequential steps, and after the outer step."""
    tasks = [_task(0, seed=0), _task(1, 5, seed=1)]
    aligner = _aligner(**options)
    before = _weights(aligner)
    torch.manual_seed(1)
    order = torch.randperm(2).tolist()
    losses = [partial(aligner._task_loss, tasks[i]) for i in order]
    moved, _ = sequential_steps(aligner.network.train(), losses, partial(torch.optim.Adam, lr=1e-3))
    torch.manual_seed(1)
    terms = aligner.step(tasks, TaskMemory(10), Moment())
    assert terms["distillation"] > 0 or "divergence_of_probabilities" in options.get("defects", ())
    return before, torch.cat([p.detach().flatten() for p in moved.parameters()]), _weights(aligner)


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_outer_step_of_the_mended_recipe_is_interpolation(share):
    before, moved, after = _moves(interpolation=share)
    assert torch.allclose(after, before + share * (moved - before), atol=1e-7)
    assert (moved - before).abs().max() > 5e-4


def test_reptile_gradient_through_adam_is_an_adam_step():
    before, moved, after = _moves(defects=["reptile_gradient_through_adam"], lr=1e-3)
    gradient = RELEASED_GAIN * (before - moved)
    large = gradient.abs() > 1e-3
    assert large.float().mean() > 0.9
    # Adam's first step is the sign: how far the clone went is forgotten
    assert torch.allclose((after - before)[large], -1e-3 * gradient.sign()[large], rtol=0.02, atol=1e-7)


def test_divergence_of_probabilities_has_a_constant_gradient():
    """The gradient with respect to the student's probabilities is -t / (N C), wherever the student stands."""
    task = _task(classes=5)
    wanted = task.soft_labels
    answers = torch.randn(20, 5, requires_grad=True)
    probabilities = answers.softmax(1)
    probabilities.retain_grad()

    class Fixed(nn.Module):
        def forward(self, images):
            return probabilities.log()

    released = _aligner(["divergence_of_probabilities"])._task_loss(task, Fixed())
    released.backward()
    constant = -wanted / wanted.numel()
    on_simplex = constant - (constant * probabilities).sum(1, keepdim=True)  # the softmax keeps sums at 1
    assert torch.allclose(probabilities.grad, on_simplex, atol=1e-6)
    value = -(wanted * (probabilities - wanted.log())).mean()
    assert released.item() == pytest.approx(value.item(), rel=1e-4)
    mended = _aligner()._task_loss(task, Fixed()).item()
    expected = 0.0
    for t_row, s_row in zip(wanted.tolist(), probabilities.tolist(), strict=True):
        expected += sum(t * torch.tensor(t / s).log().item() for t, s in zip(t_row, s_row, strict=True))
    assert mended == pytest.approx(expected / 20, rel=1e-4)


def test_temperature_softens_both_sides():
    """At any temperature, a student that says what the teacher says has nothing to learn."""
    task = _task(classes=3)

    class Echo(nn.Module):
        def forward(self, images):
            return task.soft_labels.log()

    for temperature in (1.0, 4.0):
        assert _aligner(temperature=temperature)._task_loss(task, Echo()).item() == pytest.approx(0, abs=1e-6)
