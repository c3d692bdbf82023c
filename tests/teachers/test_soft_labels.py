"""Soft labels of those who are asked, against asking everybody."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch
from pico import CrampedNetwork, pico_teacher

from hf_free.data.logits import LogitLayout
from hf_free.runtime.device import Precision
from hf_free.runtime.text import parse_bytes
from hf_free.teachers.asking import choose_asked
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.soft_labels import label, teacher_sources
from hf_free.teachers.teacher import Teacher

CLASSES = [3, 2, 70, 5]


def _pictures(count=13):
    return torch.randint(256, (count, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def _teachers():
    return [pico_teacher("conv4", num_classes=count, size=16, seed=count) for count in CLASSES]


def _asked(per_image, count=13):
    owners = torch.arange(count) % 5 - 1
    return choose_asked(owners, [0] * len(CLASSES), per_image, seed=0)


class Seen:
    """A source that remembers how many images it was shown."""

    def __init__(self, source):
        self.source, self.places, self.images = source, source.places, 0

    def logits(self, images, precision):
        self.images += len(images)
        return self.source.logits(images, precision)


@pytest.mark.parametrize("per_image", [1, 2, 3])
@pytest.mark.parametrize("batch", [2, 512])
def test_those_who_are_asked_answer_as_if_all_were(per_image, batch):
    layout, asked = LogitLayout.of(CLASSES), _asked(per_image)
    sources = [Seen(source) for source in teacher_sources(TeacherPool.from_teachers(_teachers()), layout)]
    full = label(sources, _pictures(), layout, Precision()).dense().float()
    for source in sources:
        source.images = 0
    found = label(sources, _pictures(), layout, Precision(), asked, batch=batch)
    assert sum(source.images for source in sources) == 13 * per_image  # and nobody else was asked
    known = torch.zeros(13, len(CLASSES), dtype=torch.bool).scatter_(1, asked, True)
    columns = known.repeat_interleave(torch.tensor(layout.sizes), 1)
    expected = torch.where(columns, full, torch.nan)
    torch.testing.assert_close(found.dense().float(), expected, rtol=2e-3, atol=2e-3, equal_nan=True)


def test_a_source_of_several_blocks_is_shown_an_image_once():
    """A learner that is continued answers for all its teachers in one pass."""

    class Several:
        places = (1, 3)
        images = 0

        def logits(self, images, precision):
            self.images += len(images)
            return torch.arange(7.0).expand(len(images), 7) + images[:, 0, 0, 0, None]

    layout, asked, several, pictures = LogitLayout.of(CLASSES), _asked(2), Several(), _pictures()
    found = label([several], pictures, layout, Precision(), asked).dense().float()
    wanted = (asked == 1) | (asked == 3)
    assert several.images == int(wanted.any(1).sum())
    for row in range(13):
        for place, numbers in ((1, torch.arange(2.0)), (3, torch.arange(2.0, 7.0))):
            said = found[row, layout.blocks[place].columns]
            if place in asked[row].tolist():
                torch.testing.assert_close(said, numbers + pictures[row, 0, 0, 0], rtol=2e-3, atol=2e-3)
            else:
                assert said.isnan().all()


def test_answers_that_are_no_numbers_and_those_without_memory_are_nan():
    teachers = _teachers()
    with torch.no_grad():
        teachers[0].network.get_classifier().bias[1] = torch.nan
    teachers[3] = Teacher(CrampedNetwork(teachers[3].network, 0), teachers[3].record)
    pool = TeacherPool.from_teachers(_teachers())
    for index in (0, 3):
        pool._loaded[index] = teachers[index]
    layout, asked = LogitLayout.of(CLASSES), _asked(2)
    found = label(teacher_sources(pool, layout), _pictures(), layout, Precision(), asked).dense()
    for place, answers in ((0, False), (1, True), (2, True), (3, False)):
        of = found[(asked == place).any(1)][:, layout.blocks[place].columns]
        assert len(of)
        assert of.isfinite().all() if answers else of.isnan().all()


@pytest.mark.parametrize("per_image", [None, 2])
@pytest.mark.parametrize("budget", ["1GiB", "1kB"])
def test_two_threads_ask_as_one_does_and_only_what_stays_in_memory_is_asked_by_both(per_image, budget, monkeypatch):
    pool, layout = TeacherPool.from_teachers(_teachers()), LogitLayout.of(CLASSES)
    held, pool.budget = list(pool), parse_bytes(budget)
    asked = None if per_image is None else _asked(per_image)
    rows, threads, before, plain = [], [], torch.get_num_threads(), Teacher.labels

    def labels(self, images):
        threads.append(threading.current_thread())
        return plain(self, images)

    monkeypatch.setattr(pool, "for_asking", lambda place, precision: held[place])
    monkeypatch.setattr(Teacher, "labels", labels)
    for count in (1, 2):
        torch.set_num_threads(count)
        rows.append(label(teacher_sources(pool, layout), _pictures(), layout, Precision(), asked).dense())
    torch.set_num_threads(before)
    assert torch.equal(*(part.nan_to_num(99) for part in rows))  # NaN: not asked
    by_others = [thread for thread in threads if thread is not threading.main_thread()]
    assert len(by_others) == (len(CLASSES) if budget == "1GiB" else 0)


def test_teachers_of_large_pictures_are_asked_one_after_the_other():
    pool = TeacherPool.from_teachers(_teachers())
    assert pool.is_asked_beside
    pool.records[1] = replace(pool.records[1], input_size=(3, 224, 224))
    assert not pool.is_asked_beside


def test_what_the_pause_raises_ends_the_asking_of_two_threads():
    pool, layout, pauses = TeacherPool.from_teachers(_teachers()), LogitLayout.of(CLASSES), []

    def pause():
        pauses.append(threading.current_thread())
        if len(pauses) == 3:
            raise KeyboardInterrupt

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyboardInterrupt):
            label(teacher_sources(pool, layout), _pictures(), layout, Precision(), pause=pause)
    finally:
        torch.set_num_threads(before)
    assert pauses == 3 * [threading.main_thread()]
