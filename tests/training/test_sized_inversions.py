"""How many pictures an inversion makes, so that it fits into memory and its time."""

from __future__ import annotations

import math

import pytest
import torch
from pico import pico_folder

from hf_free.config.sections import FiveConfig
from hf_free.inversion.five import Five
from hf_free.teachers.pool import TeacherPool
from hf_free.training.sized_inversions import Inversions, try_inversions
from hf_free.training.trial import Load

FIVE = FiveConfig(images_per_class=6, latent_dim=8, width=4, inner_steps=3)


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    root = tmp_path_factory.mktemp("teachers")
    kinds = {"a": "conv4", "b": "resnet"}
    return TeacherPool([str(pico_folder(root / name, kind, size=16)) for name, kind in kinds.items()])


def test_memory_and_mean_time_bound_the_number_of_pictures():
    loads = (Load(1000, 10, 1.0, 0.1), Load(0, 50, 3.0, 0.3))
    found = Inversions(loads, room=2000.0)
    assert found.within(math.inf) == 40, "the second kind's 2,000 bytes of 50 each"
    assert found.within(4.0) == 10, "2 seconds for the mean of 0.2 a picture, after the mean of 2 that are fixed"
    assert found.within(0.1) == 4, "time alone refuses nothing"
    assert Inversions(loads, room=1030.0).within(math.inf) is None, "3 pictures of the first kind are no task"
    assert Inversions(()).within(math.inf) is None


def test_trying_moves_neither_generator_nor_random_numbers(pool):
    five = Five(FIVE, image_size=16)
    before = {name: tensor.clone() for name, tensor in five.generator.state_dict().items()}
    torch.manual_seed(3)
    wanted = torch.rand(4)
    torch.manual_seed(3)
    found = try_inversions(five, pool)
    assert torch.equal(torch.rand(4), wanted)
    assert all(torch.equal(tensor, before[name]) for name, tensor in five.generator.state_dict().items())
    assert five.most_images is None
    assert len(found.loads) == 2
    assert found.refused == 0
    assert all(load.seconds(20) > 0 for load in found.loads)


def test_what_does_not_fit_is_counted_and_other_errors_go_on(pool, monkeypatch):
    five = Five(FIVE, image_size=16)

    def no_memory(*_args, **_kwargs):
        raise MemoryError("none is left")

    monkeypatch.setattr(five, "recover", no_memory)
    assert try_inversions(five, pool).refused == 2
    assert try_inversions(five, pool).within(math.inf) is None

    def wrong(*_args, **_kwargs):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(five, "recover", wrong)
    with pytest.raises(RuntimeError, match="shapes"):
        try_inversions(five, pool)


def test_a_pool_without_room_to_recover_draws_all_its_pictures(tmp_path, monkeypatch, caplog):
    from hf_free import pool as make_pooled

    monkeypatch.setattr("hf_free.training.sized_inversions.SHARE_OF_FREE", 0.0)
    folder = str(pico_folder(tmp_path / "a", "conv4", size=16))
    learner = make_pooled([folder], output=tmp_path / "pooled", five=FIVE, rounds=1, device="cpu")
    assert "all pictures are drawn" in caplog.text
    assert learner.adapt(torch.rand(4, 3, 16, 16), [0, 0, 1, 1]).predict(torch.rand(2, 3, 16, 16)) is not None
