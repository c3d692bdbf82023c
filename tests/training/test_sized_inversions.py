"""How many pictures an inversion makes, so that it fits into memory."""

from __future__ import annotations

import pytest
import torch
from pico import pico_folder

from hf_free import pool as make_pooled
from hf_free.config.sections import FiveConfig
from hf_free.inversion.five import Five
from hf_free.teachers.pool import TeacherPool
from hf_free.training import sized_inversions
from hf_free.training.sized_inversions import images_that_fit
from hf_free.training.trial import Load

FIVE = FiveConfig(images_per_class=6, latent_dim=8, width=4, inner_steps=3)


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    root = tmp_path_factory.mktemp("teachers")
    kinds = {"a": "conv4", "b": "resnet"}
    return TeacherPool([str(pico_folder(root / name, kind, size=16)) for name, kind in kinds.items()])


def test_the_teacher_that_takes_most_memory_bounds_the_number_of_pictures(pool, monkeypatch):
    loads = iter([Load(1000, 10, 0, 0), Load(0, 50, 0, 0), Load(1000, 400, 0, 0), Load(0, 1, 0, 0)])
    monkeypatch.setattr(sized_inversions, "measure", lambda *_args, **_settings: next(loads))
    monkeypatch.setattr(sized_inversions, "free_memory", lambda _device: 4000)
    five = Five(FIVE, image_size=16)
    assert images_that_fit(five, pool, share=0.5) == 40, "the second kind's 2,000 bytes of 50 each"
    assert images_that_fit(five, pool, share=0.5) is None, "2 pictures of the third kind are no task"


def test_trying_moves_neither_generator_nor_random_numbers(pool):
    five = Five(FIVE, image_size=16)
    before = {name: tensor.clone() for name, tensor in five.generator.state_dict().items()}
    torch.manual_seed(3)
    wanted = torch.rand(4)
    torch.manual_seed(3)
    found = images_that_fit(five, pool)
    assert torch.equal(torch.rand(4), wanted)
    assert all(torch.equal(tensor, before[name]) for name, tensor in five.generator.state_dict().items())
    assert five.most_images is None
    assert found is not None
    assert found >= 4


def test_what_does_not_fit_does_not_count_and_other_errors_go_on(pool, monkeypatch):
    five = Five(FIVE, image_size=16)
    recover = five.recover

    def no_memory_for_the_first(teacher, index=0, *args, **settings):
        if index == 0:
            raise MemoryError("none is left")
        return recover(teacher, index, *args, **settings)

    monkeypatch.setattr(five, "recover", no_memory_for_the_first)
    assert images_that_fit(five, pool) is not None, "the second teacher's"

    def no_memory(*_args, **_settings):
        raise MemoryError("none is left")

    monkeypatch.setattr(five, "recover", no_memory)
    assert images_that_fit(five, pool) is None

    def wrong(*_args, **_settings):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(five, "recover", wrong)
    with pytest.raises(RuntimeError, match="shapes"):
        images_that_fit(five, pool)


def test_a_pool_without_room_to_recover_draws_all_its_pictures(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(sized_inversions, "free_memory", lambda _device: 0)
    folder = str(pico_folder(tmp_path / "a", "conv4", size=16))
    learner = make_pooled([folder], output=tmp_path / "pooled", five=FIVE, rounds=1, device="cpu")
    assert "all pictures are drawn" in caplog.text
    assert len(learner.adapt(torch.rand(4, 3, 16, 16), [0, 0, 1, 1]).predict(torch.rand(2, 3, 16, 16))) == 2
