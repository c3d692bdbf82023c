"""BiDf-MKD's two halves, and that either can be had alone."""

from __future__ import annotations

import torch
from pico import pico_teacher
from runs import TINY

from hf_free.config.reading import merge
from hf_free.config.tree import FreeConfig
from hf_free.inversion.task import Health, RecoveredTask
from hf_free.inversion.zero_order import ZeroOrderInverter
from hf_free.metalearning.bilevel import BilevelDistiller
from hf_free.metalearning.distill import Distiller
from hf_free.methods.bidf_mkd import BIDF_MKD
from hf_free.runtime.chains import ONE_CHAIN
from hf_free.runtime.device import Precision
from hf_free.runtime.random_streams import RandomStreams
from hf_free.teachers.pool import TeacherPool
from hf_free.training.setup import assemble, gather

HEALTH = Health(1.0, 0.0, 0.0)


def parts_of(**bell: object):
    config = FreeConfig.from_dict(merge({"method": "bidf-mkd", "bell": {"n_way": 3, **bell}}, TINY))
    pool = TeacherPool.from_teachers([pico_teacher("conv4", size=16, num_classes=3, seed=seed) for seed in range(2)])
    return assemble(gather(config, pool=pool, is_planned=True))


def test_constants_are_those_of_the_public_code():
    config = FreeConfig(method="bidf-mkd")
    assert (config.queries.directions, config.queries.smoothing) == (100, 0.005)
    assert (config.five.inner_steps, config.five.images_per_class, config.bell.distilled_steps) == (200, 30, 10)
    teacher = pico_teacher("conv4", size=32, num_classes=5)
    inverter = BIDF_MKD.inverter(config, torch.device("cpu"), Precision(None), RandomStreams(0), ONE_CHAIN)
    assert inverter.sets * (inverter.cost(teacher) - 150) == 6_060_000  # as counted from its code, results left out


def test_either_half_stands_beside_another():
    parts = parts_of()
    assert isinstance(parts.objective, BilevelDistiller)
    assert parts.inverter.sets == 2
    assert not parts.inverter.needs_gradients
    parts = parts_of(objective="distill")
    assert isinstance(parts.objective, Distiller)
    assert parts.inverter.sets == 1


def test_the_query_set_alone_is_sought_against_the_learner_adapted_to_the_support(monkeypatch):
    parts, made, asked = parts_of(), [], []

    def adapted(support):
        made.append(support)
        return lambda images, teacher: torch.zeros(len(images), 3)

    def recover(self, teacher, index, student, steps, number):
        asked.append((number, student))
        return RecoveredTask(torch.empty(0), torch.empty(0), torch.empty(0), (), index, str(number), HEALTH), {}

    monkeypatch.setattr(parts.inverter, "adapt", adapted)
    monkeypatch.setattr(ZeroOrderInverter, "_recover", recover)
    tasks, _ = parts.inverter.step([(0, None), (1, None)], parts.objective.student)
    assert [task.reference for task in tasks] == ["0", "1"] * 2
    assert [(task.teacher, task.reference) for task in made] == [(0, "0"), (1, "0")]
    assert [student is None for _, student in asked] == [True, False] * 2
    assert asked[1][1] is not parts.objective.student
    assert parts_of().inverter.adapt is not None
    made.clear()
    parts.inverter.step([(0, None)])  # a step without a student asks for none
    assert not made


def test_its_way_to_learn_goes_with_another_inversion():
    config = FreeConfig.from_dict(merge({"method": "paper", "bell": {"n_way": 3, "objective": "bilevel"}}, TINY))
    pool = TeacherPool.from_teachers([pico_teacher("conv4", size=16, num_classes=3, seed=seed) for seed in range(2)])
    assert isinstance(assemble(gather(config, pool=pool, is_planned=True)).objective, BilevelDistiller)
