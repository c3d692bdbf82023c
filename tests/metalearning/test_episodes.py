"""PURER's learning: as many updates as asked for, when pictures are made harder, and what that asks of them."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from hf_free.config.sections import BellConfig, LearnerConfig
from hf_free.inversion.learned_pixels import LivePictures
from hf_free.inversion.task import Health, RecoveredTask
from hf_free.learner.inputs import InputSettings
from hf_free.learner.meta_learner import MetaLearner
from hf_free.memory.bank import TaskMemory
from hf_free.metalearning.base import Moment
from hf_free.metalearning.episodes import Episodes
from hf_free.metalearning.replay import maml_query_loss
from hf_free.runtime.device import Precision
from hf_free.runtime.random_streams import RandomStreams

ON = torch.tensor([5.0, 0, 0, 1])
"""A curriculum whose switch is on: updates, updates waited, best accuracy, switch."""


def _episodes(*, names=None, **values) -> Episodes:
    torch.manual_seed(0)
    learner = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16), inputs=InputSettings(batchnorm="support"))
    settings = {"n_way": 3, "k_shot": 1, "n_query": 2, "replay_tasks": 1, "updates_per_step": 1}
    config = BellConfig(**{"objective": "episodes", "challenge": 10.0, "challenge_after": 2, **settings, **values})
    return Episodes(learner, config, Precision(), class_names=names, streams=RandomStreams(0))


def _memory() -> TaskMemory:
    memory, generator = TaskMemory(1000), torch.Generator().manual_seed(0)
    for teacher in range(2):
        labels = torch.arange(3).repeat(4)
        images = torch.randint(256, (12, 3, 16, 16), dtype=torch.uint8, generator=generator)
        soft = torch.full((12, 3), 1 / 3)
        memory.add_task(RecoveredTask(images, labels, soft, (0, 1, 2), teacher, "t", Health(1.0, 0.1, 0.1)))
    return memory


def _live(classes=(0, 1, 2), teachers=(0, 1), each=3) -> list[LivePictures]:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(len(classes)).repeat(each)
    return [
        LivePictures(t, torch.rand(len(labels), 3, 16, 16, generator=generator).requires_grad_(), labels, classes)
        for t in teachers
    ]


@pytest.mark.parametrize("updates", [1, 3])
def test_a_step_has_as_many_updates_as_asked_for(updates):
    terms = _episodes(updates_per_step=updates, replay_patience=1).step([], _memory(), Moment())
    # patience ends no step here: it belongs to the curriculum
    assert terms["replay_updates"] == updates


def _asks(one: Episodes, memory: TaskMemory, steps: int) -> list[bool]:
    """After each step, whether it asks for harder pictures."""
    stream, asked = RandomStreams(0).stream("challenge"), []
    for _ in range(steps):
        terms = one.step([], memory, Moment())
        asked.append(one.challenge(_live(), stream) is not None)
        assert terms.get("made_harder", 0.0) == asked[-1]
    return asked


def test_the_switch_is_on_once_after_so_many_updates_then_whenever_accuracy_stalls():
    # the learner hardly moves, so its accuracy soon has a best that is not passed
    one = _episodes(challenge_after=2, replay_patience=3, lr=1e-6)
    asked = _asks(one, _memory(), 12)
    assert asked[:2] == [False, True]
    later = [step for step, is_on in enumerate(asked) if is_on][1:]
    assert later
    assert all(second - first >= 3 for first, second in pairwise(later))


def asked_after(accuracies: list[float], *, start: int, patience: int) -> list[int]:
    """Updates after which PURER's code asks for harder episodes, written out: numbers of updates, from 1.

    At update `start` it does in any case. Later ones compare their accuracy with the best since then, and after
    `patience` that are not better it does so again and forgets the best.
    """
    asked, best, stalled = [], None, 0
    for update, accuracy in enumerate(accuracies, 1):
        if update == start:
            asked.append(update)
        elif update > start:
            if best is None or accuracy > best:
                best, stalled = accuracy, 0
            else:
                stalled += 1
            if stalled == patience:
                asked.append(update)
                best, stalled = None, 0
    return asked


@pytest.mark.parametrize("start", [0, 2, 5])
def test_the_switch_forgets_what_was_before_it(start, monkeypatch):
    accuracies = [0.9, 0.8, 0.0, 0.5, 0.4, 0.5, 0.4, 0.1, 0.3, 0.3, 0.2, 0.1, 0.6, 0.6, 0.7, 0.2, 0.7, 0.1, 0.1, 0.1]
    one, left = _episodes(challenge_after=start, replay_patience=3), iter(accuracies)
    monkeypatch.setattr(one, "_replay", lambda *_: {"replay_accuracy": next(left), "replay_updates": 1.0})
    asked = _asks(one, _memory(), len(accuracies))
    expected = asked_after(accuracies, start=start, patience=3)
    assert [step for step, is_on in enumerate(asked, 1) if is_on] == expected
    assert len(expected) >= 3


def test_without_a_factor_nothing_is_asked():
    assert not any(_asks(_episodes(challenge=0.0, challenge_after=0), _memory(), 4))


def test_it_asks_for_the_rise_of_the_outer_loss_and_leaves_no_trace():
    one = _episodes()
    one.load_tensors({"curriculum": ON})
    live, before = _live(), [value.clone() for value in one.learner.state_dict().values()]
    wish = one.challenge(live, RandomStreams(0).stream("challenge"))
    gradients = torch.autograd.grad(wish, [pictures.images for pictures in live])
    assert all(parameter.grad is None for parameter in one.network.parameters())
    for value, was in zip(one.learner.state_dict().values(), before, strict=True):
        assert torch.equal(value, was)
    chosen = [(g.flatten(1).abs().sum(1) > 0).sum().item() for g in gradients]
    assert sum(chosen) == 3 * (1 + 2), "an episode's pictures, each once"
    assert one.challenge(live, RandomStreams(0).stream("challenge")) is None, "the switch is off again"
    with torch.no_grad():  # a small step along it
        moved = [p._replace(images=p.images - 0.01 * g) for p, g in zip(live, gradients, strict=True)]
    one.load_tensors({"curriculum": ON})
    assert one.challenge(moved, RandomStreams(0).stream("challenge")) < wish


def test_classes_of_one_name_never_meet_and_too_few_make_no_episode():
    names = {(teacher, index): f"class {index}" for teacher in range(2) for index in range(3)}
    one = _episodes(names=names, n_way=4)
    stream = RandomStreams(0).stream("challenge")
    one.load_tensors({"curriculum": ON})
    assert one.challenge(_live(), stream) is None, "three names for four ways"
    other = _episodes(n_way=4)
    other.load_tensors({"curriculum": ON})
    assert other.challenge(_live(), stream) is not None
    other.load_tensors({"curriculum": ON})
    assert other.challenge(_live(each=2), stream) is None, "two pictures for one shot and two queries"


def test_its_wish_is_minus_the_challenge_times_maml_s_loss():
    one = _episodes(n_way=2, challenge=7.0)
    one.load_tensors({"curriculum": ON})
    live = _live(classes=(0, 1), teachers=(0,))
    wish = one.challenge(live, RandomStreams(0).stream("challenge"))
    candidates = []
    images, labels = live[0].images, live[0].labels
    for first in (0, 1):
        order = [first, 1 - first]
        for one_shot in range(3):
            for other_shot in range(3):
                shots = dict(zip(order, (one_shot, other_shot), strict=True))
                sets = [images[labels == c] for c in order]
                support = torch.stack([s[shots[c]] for s, c in zip(sets, order, strict=True)])
                query = torch.cat(
                    [s[[i for i in range(3) if i != shots[c]]] for s, c in zip(sets, order, strict=True)]
                )
                one.network.train()
                loss, _, _ = maml_query_loss(
                    one.network, support, torch.tensor([0, 1]), query, torch.tensor([0, 0, 1, 1]),
                    steps=one.config.replay_inner_steps, lr=one.config.replay_inner_lr,
                )  # fmt: skip
                candidates.append(-7 * loss.item())
    assert min(abs(wish.item() - value) for value in candidates) < 1e-4
