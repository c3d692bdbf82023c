"""Cross-task episodes: how they are drawn, and second-order MAML against finite differences of plain loops."""

from __future__ import annotations

import copy
from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hf_free.config.recipes import Defects
from hf_free.config.sections import BellConfig, LearnerConfig
from hf_free.data.class_matching import clash_scores, find_clashes
from hf_free.data.logit_rows import LogitRows
from hf_free.data.logits import ClassKey, LogitLayout
from hf_free.inversion.task import Health, RecoveredTask
from hf_free.learner.inputs import InputSettings
from hf_free.learner.meta_learner import MetaLearner
from hf_free.memory.bank import TaskMemory
from hf_free.metalearning.base import Moment
from hf_free.metalearning.bell import Aligner
from hf_free.metalearning.replay import draw_classes, draw_episode, maml_query_loss
from hf_free.runtime.device import Precision

# ---- drawing


def test_no_two_classes_that_clash():
    torch.manual_seed(0)
    ids = list(range(100, 112))
    names = ["cat", "dog", "cat", None, "dog", "owl", None, "cat", "fox", "owl", "cat", "cat"]
    clash = find_clashes([ClassKey(teacher, 0) for teacher in range(12)], names)
    by_id = dict(zip(ids, names, strict=True))
    seen = Counter()
    for _ in range(300):
        chosen = draw_classes(ids, clash, 5)
        assert len(chosen) == len(set(chosen)) == 5
        known = [by_id[label] for label in chosen if by_id[label] is not None]
        assert len(known) == len(set(known))
        seen.update(chosen)
    assert set(seen) == set(ids)  # nothing is shut out for good
    # four names and two nameless classes are all there is
    assert len(draw_classes(ids, clash, 6)) == 6
    assert len(draw_classes(ids, clash, 7)) == 6


def test_without_clashes_every_class_is_drawn():
    torch.manual_seed(0)
    none = torch.zeros(3, 3, dtype=torch.bool)
    assert sorted(draw_classes([3, 5, 7], none, 3)) == [3, 5, 7]
    assert len(draw_classes([3, 5, 7], none, 4)) == 3


def test_classes_that_fit_together_are_found_whatever_the_order():
    torch.manual_seed(0)
    clash = torch.zeros(5, 5, dtype=torch.bool)
    clash[0, 1:] = clash[1:, 0] = True  # four go together, but none with the first
    for _ in range(20):
        assert sorted(draw_classes(range(5), clash, 4)) == [1, 2, 3, 4]


def _task(teacher, classes, each=6):
    """Pictures that spell (teacher, class, number)."""
    labels = torch.arange(len(classes)).repeat(each)
    images = torch.zeros(len(labels), 3, 1, 1, dtype=torch.uint8)
    for i, label in enumerate(labels.tolist()):
        images[i, :, 0, 0] = torch.tensor([teacher, classes[label], i])
    soft = F.one_hot(labels, len(classes)).float()
    return RecoveredTask(images, labels, soft, tuple(classes), teacher, "t", Health(1.0, 0.1, 0.1))


def test_episode_holds_the_chosen_classes_and_no_picture_twice():
    torch.manual_seed(0)
    memory = TaskMemory(1000)
    memory.add_task(_task(0, [0, 1]))
    memory.add_pictures(torch.zeros(5, 3, 1, 1, dtype=torch.uint8))
    memory.add_task(_task(1, [4, 9]))
    classes = memory.pictures_by_class(6)
    chosen = [3, 0, 2]
    support, support_labels, query, query_labels = draw_episode(memory, classes, chosen, 2, 4)
    assert support_labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert query_labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    for images, labels in ((support, support_labels), (query, query_labels)):
        for image, label in zip(images, labels.tolist(), strict=True):
            key = memory.classes[chosen[label]]
            assert image[:2].flatten().tolist() == [key.teacher, key.index]
    everything = [tuple(image.flatten().tolist()) for image in torch.cat([support, query])]
    assert len(set(everything)) == 18


# ---- second-order MAML


def _softmax_gradient(weight, bias, x, y):
    """Gradient of the mean cross-entropy of softmax regression, in closed form."""
    p = (x @ weight.T + bias).softmax(1) - F.one_hot(y, len(weight)).to(x.dtype)
    return p.T @ x / len(x), p.mean(0)


def _plain_query_loss(theta, support, support_labels, query, query_labels, steps, lr):
    weight, bias = theta[:, :-1], theta[:, -1]
    for _ in range(steps):
        d_weight, d_bias = _softmax_gradient(weight, bias, support, support_labels)
        weight, bias = weight - lr * d_weight, bias - lr * d_bias
    logits = query @ weight.T + bias
    right = (logits.argmax(1) == query_labels).double().mean()
    return F.cross_entropy(logits, query_labels), right, weight


@pytest.fixture
def episode():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(6, 3)).double()
    support, query = torch.rand(6, 6, 1, 1).double(), torch.rand(12, 6, 1, 1).double()
    return network, support, torch.arange(3).repeat(2), query, torch.arange(3).repeat(4)


@pytest.mark.parametrize(("steps", "lr"), [(1, 0.5), (5, 0.5), (3, 2.0)])
def test_query_loss_and_its_gradient_against_finite_differences(episode, steps, lr):
    network, support, support_labels, query, query_labels = episode
    linear = network[1]
    theta = torch.cat([linear.weight, linear.bias[:, None]], 1).detach()
    flat = (support.flatten(1), support_labels, query.flatten(1), query_labels, steps, lr)
    loss, accuracy, weights = maml_query_loss(network, *episode[1:], steps=steps, lr=lr)
    expected, right, adapted = _plain_query_loss(theta, *flat)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    assert accuracy.item() == pytest.approx(right.item())
    assert torch.allclose(weights["1.weight"], adapted)
    loss.backward()
    found = torch.cat([linear.weight.grad, linear.bias.grad[:, None]], 1)
    differences = torch.zeros_like(theta)
    for i in range(theta.shape[0]):
        for j in range(theta.shape[1]):
            step = torch.zeros_like(theta)
            step[i, j] = 1e-5
            up, down = (_plain_query_loss(theta + sign * step, *flat)[0] for sign in (1, -1))
            differences[i, j] = (up - down) / 2e-5
    assert torch.allclose(found, differences, atol=1e-8)


def test_the_gradient_is_of_second_order(episode):
    network, _, _, query, query_labels = episode
    loss, _, weights = maml_query_loss(network, *episode[1:], steps=3, lr=2.0)
    loss.backward()
    adapted = copy.deepcopy(network)
    adapted.load_state_dict({name: w.detach() for name, w in weights.items()})
    F.cross_entropy(adapted(query), query_labels).backward()  # first-order MAML's gradient
    first_order, found = adapted[1].weight.grad, network[1].weight.grad
    assert (found - first_order).norm() > 0.1 * first_order.norm()


def test_weights_are_left_where_they_are(episode):
    network = episode[0]
    before = copy.deepcopy(network.state_dict())
    maml_query_loss(*episode, steps=2, lr=0.5)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


# ---- the loop around it


def _learnable_memory(each=8):
    """Two teachers' classes, each of one color."""
    torch.manual_seed(0)
    memory = TaskMemory(1000)
    for teacher in (0, 1):
        labels = torch.arange(3).repeat(each)
        colors = torch.tensor([[220, 30, 30], [30, 220, 30], [30, 30, 220]]) - 25 * teacher
        noise = torch.randint(0, 25, (len(labels), 3, 16, 16))
        images = (colors[labels].view(-1, 3, 1, 1) + noise).to(torch.uint8)
        soft = F.one_hot(labels, 3).float()
        memory.add_task(RecoveredTask(images, labels, soft, (0, 1, 2), teacher, "t", Health(1.0, 0.1, 0.1)))
    return memory


def _aligner(defects=(), names=None, layout=None, **values):
    torch.manual_seed(0)
    learner = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16), inputs=InputSettings(batchnorm="support"))
    config = BellConfig(
        **{
            "objective": "align",
            "n_way": 3,
            "k_shot": 2,
            "n_query": 4,
            "replay_tasks": 2,
            "replay_patience": 2,
            "replay_inner_steps": 2,
            **values,
        }
    )
    return Aligner(learner, config, Precision(), class_names=names, layout=layout, defects=Defects.named(defects))


def test_replay_learns_to_learn_and_stops_by_patience():
    aligner, memory = _aligner(replay_inner_lr=0.1, lr=3e-3), _learnable_memory()
    first = aligner.step([], memory, Moment())
    assert first["replay_updates"] >= 3  # at least one update that helps, then two in vain
    for _ in range(6):
        last = aligner.step([], memory, Moment())
    assert last["replay_accuracy"] > max(0.6, first["replay_accuracy"] - 0.1)


def test_replay_ends_with_the_runs_time():
    aligner, asked = _aligner(replay_patience=100, replay_inner_lr=0.1), []
    ends = Moment(is_over=lambda: bool(asked.append(None)) or len(asked) == 3)
    assert aligner.step([], _learnable_memory(), ends)["replay_updates"] == 3


def test_replay_waits_for_enough_classes():
    memory = _learnable_memory(each=8)
    assert _aligner(n_way=7).step([], memory, Moment()) == {}  # six classes are held
    assert _aligner(n_query=7).step([], memory, Moment()) == {}  # of eight pictures, two are support
    assert _aligner(replay_tasks=0).step([], memory, Moment()) == {}
    names = {(teacher, index): f"class {index}" for teacher in (0, 1) for index in range(3)}
    assert _aligner(names=names, n_way=4).step([], memory, Moment()) == {}  # six classes, but three names
    assert "replay_accuracy" in _aligner(names=names, n_way=3).step([], memory, Moment())


def test_student_keeps_replay_weights_asks_the_adapted_network():
    images = torch.rand(6, 3, 16, 16)
    answers = {}
    for defects in ((), ("student_keeps_replay_weights",)):
        aligner = _aligner(defects, replay_inner_lr=0.1)
        before = {name: value.clone() for name, value in aligner.network.state_dict().items()}
        fresh = aligner.student(images, 0)
        aligner.student(torch.full_like(images, torch.nan), 0)
        assert all(torch.equal(value, before[name]) for name, value in aligner.network.state_dict().items())
        assert torch.equal(fresh, aligner.network(images))
        torch.manual_seed(1)
        aligner.step([], _learnable_memory(), Moment())
        answers[defects] = aligner.student(images, 0)
        is_own = torch.allclose(answers[defects], aligner.network(images), atol=1e-6)
        assert is_own == (not defects)


def test_score_is_the_accuracy_of_held_out_episodes():
    aligner, memory = _aligner(), _learnable_memory()
    score = aligner.score(memory, 20)
    assert 0.5 < score <= 1  # colors are told apart by any network
    assert aligner.score(memory, 20) == score  # the same episodes at every checkpoint
    assert aligner.score(TaskMemory(10), 20) == -float("inf")  # unknown


def test_classes_of_one_name_are_one_class_with_the_pictures_of_all_their_teachers():
    """Teacher 0 knows cat, dog; teacher 1 dog, owl and a class without a name; pictures spell (teacher, class, i)."""
    names = {(0, 0): "cat", (0, 1): "dog", (1, 0): "dog", (1, 1): "owl"}
    real = {(0, 0): "cat", (0, 1): "dog", (1, 0): "dog", (1, 1): "owl", (1, 2): "nameless"}
    aligner, memory = _aligner(names=names, n_way=4, k_shot=2, n_query=4), TaskMemory(1000)
    memory.add_task(_task(0, [0, 1], each=3))
    memory.add_task(_task(1, [0, 1, 2]))
    classes, clash = aligner._classes(memory, 6)
    assert sorted(len(places) for places in classes.values()) == [6, 6, 9]  # the cat has three pictures only
    assert not clash.any()
    classes, clash = aligner._classes(memory, 3)
    assert (len(classes), clash.shape) == (4, (4, 4))
    assert len(_aligner()._classes(memory, 3)[0]) == 5  # names that may not be trusted merge nothing

    torch.manual_seed(0)
    mixed = 0
    for _ in range(40):
        chosen = draw_classes(list(classes), clash, 4)
        support, labels, query, query_labels = draw_episode(memory, classes, chosen, 1, 2)
        drawn = [set() for _ in chosen]
        teachers = [set() for _ in chosen]
        images, labels = torch.cat([support, query]), torch.cat([labels, query_labels])
        for image, label in zip(images[:, :2, 0, 0].tolist(), labels.tolist(), strict=True):
            drawn[label].add(real[tuple(image)])
            teachers[label].add(image[0])
        assert sorted(map(sorted, drawn)) == [["cat"], ["dog"], ["nameless"], ["owl"]]  # never a name twice
        mixed += sum(len(found) == 2 for found in teachers)
        assert all(len(found) == 1 for found, name in zip(teachers, drawn, strict=True) if name != {"dog"})
    assert mixed > 10  # dogs of both teachers in one episode


@pytest.mark.parametrize(("n_way", "pairs"), [(5, 3), (6, 2), (7, 1), (8, 1)])
def test_few_classes_without_names_are_kept_apart_less_strictly(n_way, pairs):
    """Two teachers of four classes, three pairs of which are answered alike, by 0.77, 0.6 and 0.47."""
    torch.manual_seed(0)
    alike = torch.tensor([0.9, 0.65, 0.45, 0.0])
    one, noise = torch.randn(2, 1_000, 4)
    answers = LogitRows(torch.cat([one, alike * one + (1 - alike.square()).sqrt() * noise], 1), (4, 4))
    assert clash_scores(answers)[:4, 4:].diag().tolist() == pytest.approx([0.77, 0.6, 0.47, 0.17], abs=0.06)
    memory = TaskMemory(1_000, sizes=(4, 4))
    for teacher, rows in enumerate(torch.arange(1_000).split(500)):
        memory.add_task(_task(teacher, [0, 1, 2, 3], each=125), answers[rows])
    aligner = _aligner(layout=LogitLayout.of([4, 4]), n_way=n_way, k_shot=1, n_query=1)
    classes, clash = aligner._classes(memory, 2)
    assert (len(classes), clash.triu().nonzero().tolist()) == (8, [[0, 4], [1, 5], [2, 6]][:pairs])


def test_the_smallest_rehearsed_episode_has_few_support_pictures_too():
    """Five steps on 25 support pictures of 224 pixels, differentiated twice, are no first try in unknown memory."""
    rehearsal, seen = _aligner(n_way=5, k_shot=5, n_query=15).rehearsal(), []
    rehearsal.learner.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    rehearsal.update(rehearsal.least)
    assert (set(seen), rehearsal.least) == ({2, 6}, 6)
    seen.clear()
    rehearsal.update(rehearsal.most)
    assert (set(seen), rehearsal.most) == ({25, 75}, 75)
