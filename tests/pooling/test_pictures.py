"""Pictures that are not real, and what teachers say of them."""

from __future__ import annotations

import torch
from pico import pico_teacher

from hf_free.config.sections import FiveConfig
from hf_free.inversion.five import Five
from hf_free.pooling.pictures import ask_all, pictures_of, recover_from_all
from hf_free.teachers.pool import TeacherPool


def pool_of(*kinds):
    return TeacherPool.from_teachers([pico_teacher(kind, size=16) for kind in kinds])


def test_each_teacher_is_inverted_once_a_round():
    pool, told = pool_of("conv4", "resnet", "vit"), []
    config = FiveConfig(images_per_class=2, latent_dim=8, width=4, inner_steps=1, teachers_per_step=2,
                        min_teacher_accuracy=0, min_diversity=0)  # fmt: skip
    torch.manual_seed(0)
    tasks = recover_from_all(Five(config, image_size=16), pool, config, 2, lambda *how: told.append(how[1:]))
    assert [task.teacher for task in tasks] == [0, 1, 2]
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    torch.manual_seed(0)
    pictures = pictures_of(tasks, pool, 40, (3, 16))
    assert pictures.shape == (40, 3, 16, 16)
    recovered = torch.cat([task.images for task in tasks])
    chosen = torch.linspace(0, len(recovered) - 1, 20).long()
    assert torch.equal(pictures[:20], recovered[chosen])


def test_when_the_time_is_over_the_teachers_met_so_far_keep_their_newest_task(caplog):
    pool = pool_of("conv4", "vit", "groupnorm")
    config = FiveConfig(images_per_class=2, latent_dim=8, width=4, inner_steps=1, teachers_per_step=1,
                        min_teacher_accuracy=0, min_diversity=0)  # fmt: skip

    def recovered(steps):
        torch.manual_seed(0)
        left = iter([False] * steps)
        five = Five(config, image_size=16)
        return recover_from_all(five, pool, config, 2, is_over=lambda: next(left, True))

    assert not recovered(0)
    first, more, whole = (recovered(steps) for steps in (2, 4, 6))
    assert "2 of 3 teachers" in caplog.text
    assert [task.teacher for task in first] == [0, 1]
    assert [task.teacher for task in more] == [0, 1, 2]
    assert torch.equal(more[0].images, whole[0].images), "met in the second round"
    assert not torch.equal(more[0].images, first[0].images)
    assert torch.equal(more[1].images, first[1].images), "of the first, of which it is the newest"


def test_without_tasks_all_pictures_are_drawn():
    pictures = pictures_of([], pool_of("conv4"), 6, (3, 16))
    assert pictures.shape == (6, 3, 16, 16)
    assert pictures.dtype == torch.uint8


def test_tasks_that_teachers_do_not_recognize_are_left_out():
    config = FiveConfig(images_per_class=2, latent_dim=8, width=4, inner_steps=1, min_teacher_accuracy=1.0)
    torch.manual_seed(0)
    assert not recover_from_all(Five(config, image_size=16), pool_of("conv4"), config, 1)


def test_what_is_said_is_each_teachers_own():
    pool = pool_of("conv4", "resnet")
    pictures = torch.randint(0, 256, (5, 3, 20, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    said = ask_all(pool, pictures)
    for place, teacher in enumerate(pool):
        logits, features = teacher(pictures.float() / 255)
        assert torch.allclose(said.features[place], features, atol=1e-5)
        assert torch.allclose(said.logits[place], logits, atol=1e-5)
