"""Random numbers by purpose: what fixes them, and that a run draws from nothing else."""

from __future__ import annotations

import pytest
import torch
from pico import pico_teacher
from runs import TINY

from hf_free.config.reading import merge
from hf_free.config.tree import FreeConfig
from hf_free.runtime.random_streams import GLOBAL, UNSEEDED, RandomStreams
from hf_free.teachers.pool import TeacherPool
from hf_free.training.trainer import train


def _drawn(streams, purpose, number=0, count=4):
    return torch.rand(count, generator=streams.stream(purpose, number).on("cpu")).tolist()


def test_a_stream_is_fixed_by_seed_purpose_number_and_step():
    kinds = [
        (seed, purpose, number, step) for seed in (0, 1) for purpose in "ab" for number in (0, 1) for step in (1, 2)
    ]
    seen = []
    for seed, purpose, number, step in [*kinds, *reversed(kinds)]:
        streams = RandomStreams(seed)
        streams.begin(step)
        seen.append(_drawn(streams, purpose, number))
    first, again = seen[: len(kinds)], seen[len(kinds) :]
    assert first == again[::-1]
    assert len({tuple(numbers) for numbers in first}) == len(kinds)


def test_a_stream_goes_on_within_a_step_whatever_others_draw():
    one, other = RandomStreams(3), RandomStreams(3)
    _drawn(other, "b", count=100)
    whole = _drawn(one, "a", count=8)
    assert _drawn(other, "a") + _drawn(other, "a") == whole
    other.begin(1)
    other.begin(0)
    assert _drawn(other, "a", count=8) == whole


def test_what_is_kept_is_drawn_again():
    stream = RandomStreams(0).stream("a")
    with stream.kept():
        first = torch.rand(3, generator=stream.on("cpu"))
    assert torch.equal(torch.rand(3, generator=stream.on("cpu")), first)
    with stream.kept():
        second = torch.rand(3, generator=stream.on("cpu"))
    assert torch.equal(torch.rand(3, generator=stream.on("cpu")), second)
    assert not torch.equal(first, second)


def test_weights_do_not_depend_on_what_was_drawn_before_and_leave_no_trace():
    made = []
    for count in (0, 5):
        torch.manual_seed(count)
        before = torch.get_rng_state()
        with RandomStreams(2).seeding("head"):
            made.append(torch.nn.Linear(3, 2).weight)
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(*made)


def test_without_a_seed_numbers_are_the_global_generators():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    assert UNSEEDED.stream("a") is GLOBAL
    assert torch.equal(torch.rand(3, generator=GLOBAL.on("cpu")), expected)
    state = torch.get_rng_state()
    UNSEEDED.begin(3)
    assert torch.equal(torch.get_rng_state(), state)
    with UNSEEDED.seeding("a"):
        torch.rand(1)
    assert not torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("recipe", ["default", "paper"])
def test_a_run_draws_nothing_from_the_global_generator(tmp_path, recipe):
    """After each step it stands where it was seeded at the step's beginning, and each step seeds it differently."""
    small = {"n_way": 3, "n_query": 2, "replay_tasks": 1, "replay_patience": 1, "replay_inner_steps": 1}
    values = {"method": recipe, "bell": small, "memory": {"max_images": 400}, "trainer": {"steps": 4}}
    teachers = [pico_teacher("conv4", size=16, num_classes=3, seed=0), pico_teacher("vit", size=16, num_classes=25)]
    seeds = []

    def watch(learner, minutes):
        standing = torch.Generator().manual_seed(torch.initial_seed())
        assert torch.equal(torch.get_rng_state(), standing.get_state())
        seeds.append(torch.initial_seed())

    config = FreeConfig.from_dict(merge(TINY, values))
    train(config, output=tmp_path / "run", pool=TeacherPool.from_teachers(teachers), watch=watch)
    assert len(set(seeds)) == len(seeds) == 4
