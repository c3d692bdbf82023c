"""Soft labels: every teacher's logits in its own columns, asked in batches that fit."""

from __future__ import annotations

import pytest
import torch
from pico import CrampedNetwork, pico_teacher

from hf_free.data.logits import MAX_ANSWERS, CenterPerTeacher, LogitLayout
from hf_free.metalearning.distill import answer_loss
from hf_free.runtime.device import Precision
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.soft_labels import label, teacher_sources
from hf_free.teachers.teacher import Teacher


def _pictures(count, size=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def test_answers_are_the_teachers_logits_column_by_column():
    teachers = [
        pico_teacher("conv4", num_classes=3, size=16),
        pico_teacher("vit", num_classes=2, size=16),
        pico_teacher("conv4", num_classes=100, size=16, seed=2),
    ]
    layout = LogitLayout.of([3, 2, 100])
    pictures = _pictures(7)
    answers = label(
        teacher_sources(TeacherPool.from_teachers(teachers), layout), pictures, layout, Precision(), batch=3
    )
    assert answers.shape == (7, 3 + 2 + MAX_ANSWERS)
    assert answers.dtype == torch.float16
    for i, teacher in enumerate(teachers):
        for picture, row in zip(pictures, answers, strict=True):
            logits = teacher.logits(picture[None].float() / 255)[0]
            if layout.blocks[i].chosen is not None:
                logits = logits[list(layout.blocks[i].chosen)]
            assert torch.allclose(row[layout.columns(i)].float(), logits, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_answers_that_are_no_numbers_count_as_not_given(value):
    good, bad = (pico_teacher("conv4", num_classes=3, size=16, seed=seed) for seed in (0, 1))
    pool = TeacherPool.from_teachers([good, bad])
    with torch.no_grad():
        bad.network.get_classifier().bias[1] = value
    layout = LogitLayout.of([3, 3])
    answers = label(teacher_sources(pool, layout), _pictures(4), layout, Precision()).float()
    assert torch.isfinite(answers[:, :3]).all()
    assert answers[:, 3:].isnan().all()  # a teacher's answer to a picture is known whole or not at all
    loss = answer_loss(torch.zeros(4, 6, requires_grad=True), answers, CenterPerTeacher([3, 3]))["answers"]
    assert torch.isfinite(loss)


@pytest.mark.parametrize("room", [0, 1, 3])
def test_teachers_are_asked_in_batches_that_fit_into_memory(room):
    easy, other = (pico_teacher("conv4", num_classes=3, size=16, seed=seed) for seed in (1, 2))
    cramped = Teacher(CrampedNetwork(other.network, room), other.record)
    images = torch.randint(256, (9, 3, 16, 16), dtype=torch.uint8)
    layout = LogitLayout.of([3, 3])
    expected = label(teacher_sources(TeacherPool.from_teachers([easy, other]), layout), images, layout, Precision())
    found = label(teacher_sources(TeacherPool.from_teachers([easy, cramped]), layout), images, layout, Precision())
    if room == 0:
        assert found[:, 3:].isnan().all()
        found[:, 3:] = expected[:, 3:]
    assert torch.allclose(found, expected, atol=1e-2)


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_asking_in_batches_changes_nothing(batch):
    pool = TeacherPool.from_teachers([pico_teacher(kind, num_classes=3, size=16) for kind in ("conv4", "resnet")])
    layout, pictures = LogitLayout.of([3, 3]), _pictures(7)
    whole = label(teacher_sources(pool, layout), pictures, layout, Precision())
    parts = label(teacher_sources(pool, layout), pictures, layout, Precision(), batch=batch)
    assert torch.allclose(parts, whole, rtol=2e-3, atol=2e-3)
