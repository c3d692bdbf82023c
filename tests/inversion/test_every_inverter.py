"""One suite for every way to invert a teacher: two steps, terms, sizes, memory, and what goes on from a checkpoint."""

from __future__ import annotations

import copy
import math
from functools import partial

import pytest
import torch
from pico import pico_teacher

from hf_free.config.sections import INVERSION_TERMS, FiveConfig, QueriesConfig
from hf_free.inversion.base import OUT_OF_MEMORY, Inverter
from hf_free.inversion.five import Five
from hf_free.inversion.learned_pixels import LearnedPixels
from hf_free.inversion.per_teacher_generator import PerTeacherGenerator
from hf_free.inversion.pixels import PixelInverter
from hf_free.inversion.zero_order import ZeroOrderInverter

INVERTERS = {
    "five": Five,
    "per_teacher_generator": PerTeacherGenerator,
    "pixels": PixelInverter,
    "learned_pixels": LearnedPixels,
    "zero_order": partial(ZeroOrderInverter, queries=QueriesConfig(directions=2)),
}
ASKS_STUDENT = ("five", "per_teacher_generator", "pixels", "zero_order")
"""Those whose loss has the learner's disagreement; learned pixels have a curriculum of their own."""
STEPS = {"per_teacher_generator": {"steps": 3}, "pixels": {"steps": 3}}
SMALL = {"inner_steps": 3, "latent_dim": 8, "width": 4, "images_per_class": 3, "max_classes": 4}


def make(name: str, *, channels: int = 3, seed: int = 0, **values: object) -> Inverter:
    torch.manual_seed(seed)
    config = FiveConfig(**{**SMALL, **values})
    return INVERTERS[name](config, image_size=16, channels=channels, **STEPS.get(name, {}))


def teachers(*kinds: str) -> list:
    return [
        (place, pico_teacher(kind, size=16, seed=place, num_classes=3 + place)) for place, kind in enumerate(kinds)
    ]


def met(inverter: Inverter, pool: list) -> Inverter:
    """The inverter once it knows its teachers, where it keeps something of each."""
    if isinstance(inverter, LearnedPixels):
        inverter.meet([teacher.record for _, teacher in pool])
    return inverter


@pytest.fixture(params=INVERTERS)
def name(request) -> str:
    return request.param


def test_two_steps_give_a_task_of_each_teacher_and_finite_terms(name):
    inverter, pool = make(name), teachers("conv4", "vit", "resnet")
    for _ in range(2):
        tasks, terms = inverter.step(pool, lambda images, teacher: 3 * images.mean((2, 3)).repeat(1, 2))
        assert [task.teacher for task in tasks] == [0, 1, 2]
        assert [task.images.shape for task in tasks] == [(9, 3, 16, 16), (12, 3, 16, 16), (12, 3, 16, 16)]
        assert [len(task.classes) for task in tasks] == [3, 4, 4]  # of five classes four are drawn
        assert all(task.health.problem is None for task in tasks)
        assert set(terms) <= set(INVERSION_TERMS)
        assert "cross_entropy" in terms
        assert ("batchnorm" in terms) == (name != "zero_order")  # which sees answers alone
        assert ("adversarial" in terms) == (name in ASKS_STUDENT)
        assert all(math.isfinite(value) for value in terms.values())


def test_a_seed_makes_the_same_task(name):
    found = []
    for seed in (1, 1, 2):
        inverter = make(name)
        torch.manual_seed(seed)
        found.append(inverter.recover(pico_teacher("conv4", size=16), 5).images)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_recovering_alone_teaches_nothing(name):
    inverter = make(name)
    before = copy.deepcopy({key: module.state_dict() for key, module in inverter.modules().items()})
    inverter.recover(pico_teacher("conv4", size=16), steps=1)
    for key, module in inverter.modules().items():
        assert all(torch.equal(value, before[key][part]) for part, value in module.state_dict().items())


def test_it_goes_on_from_what_a_checkpoint_holds(name):
    pool, ended = teachers("conv4", "resnet"), []
    first = met(make(name), pool)
    first.step(pool)
    held = copy.deepcopy([m.state_dict() for m in first.modules().values()])
    optimizers = copy.deepcopy([o.state_dict() for o in first.optimizers()])
    second = met(make(name, seed=9), pool)
    for module, state in zip(second.modules().values(), held, strict=True):
        module.load_state_dict(state)
    for optimizer, state in zip(second.optimizers(), optimizers, strict=True):
        optimizer.load_state_dict(state)
    for inverter in (first, second):
        torch.manual_seed(3)
        ended.append([task.images for task in inverter.step(pool)[0]])
        torch.manual_seed(4)
        ended[-1] += [task.images for task in inverter.step(pool)[0]]
    assert all(torch.equal(one, other) for one, other in zip(*ended, strict=True))


def test_short_of_memory_it_makes_fewer_pictures(name):
    inverter, teacher = make(name), pico_teacher("conv4", size=16, num_classes=4)
    assert inverter.task_size(teacher) == (3, 4)
    inverter.most_images = 8
    assert inverter.task_size(teacher) == (2, 4)
    assert len(inverter.recover(teacher).images) == 8


def test_a_teacher_too_large_for_memory_is_named_and_the_others_go_on(name):
    pool = teachers("conv4", "resnet")

    def refuse(images: torch.Tensor) -> torch.Tensor:
        raise MemoryError("no room")

    pool[0][1].logits = refuse
    tasks, terms = make(name, canvas=False).step(pool)
    assert [task.health.problem for task in tasks] == [OUT_OF_MEMORY, None]
    assert (len(tasks[0].images), len(tasks[1].images)) == (0, 12)
    assert terms["cross_entropy"] > 0


def test_what_is_raised_in_a_pause_ends_the_step(name):
    inverter, calls = make(name), []

    def stop() -> None:
        calls.append(None)
        if len(calls) == 2:
            raise TimeoutError

    inverter.pause = stop
    with pytest.raises(TimeoutError):
        inverter.step(teachers("conv4"))
    assert len(calls) == 2


def test_pictures_have_the_learners_channels(name):
    task = make(name, channels=1).recover(pico_teacher("conv4", size=16, num_classes=2), 7)
    assert task.images.shape == (6, 1, 16, 16)
    assert task.teacher == 7
