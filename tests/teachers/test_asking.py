"""Who is asked about which image."""

from __future__ import annotations

import itertools

import pytest
import torch

from hf_free.teachers.asking import AT_A_TIME, choose_asked, count_asked


def _draw(owners, teachers, asked, seed=0, counts=None):
    counts = counts or [0] * teachers
    chosen = choose_asked(torch.tensor(owners), counts, asked, seed=seed)
    return chosen, count_asked(counts, chosen)


def test_its_own_teacher_is_always_asked_and_nobody_twice():
    owners = [3, -1, 0, 3, 6, -1, 5] * 9
    chosen, _ = _draw(owners, 7, 3)
    assert chosen.shape == (63, 3)
    assert all(owner < 0 or owner in row for owner, row in zip(owners, chosen.tolist(), strict=True))
    assert all(len(set(row)) == 3 for row in chosen.tolist())


@pytest.mark.parametrize("owners", [[-1] * 100, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] * 7, [0] * 20 + [-1] * 50])
def test_every_teacher_gets_equally_many_images_over_the_steps(owners):
    counts = [0] * 10
    for _ in range(5):
        _, counts = _draw(owners, 10, 3, counts=counts)
    assert sum(counts) == 5 * 3 * len(owners)
    assert max(counts) - min(counts) <= 1


def test_any_two_meet_equally_often():
    chosen, _ = _draw([-1] * 6000, 8, 3)
    met = torch.zeros(8, 8)
    for row in chosen.tolist():
        for one, other in itertools.permutations(row, 2):
            met[one, other] += 1
    expected = 6000 * 3 * 2 / (8 * 7)
    pairs = met[~torch.eye(8, dtype=torch.bool)]
    assert ((pairs - expected).abs() < 6 * expected**0.5).all()


def test_more_teachers_than_images_take_turns():
    counts = [0] * 50
    for _ in range(5):
        _, counts = _draw([7, -1, -1], 50, 4, counts=counts)
    assert sum(count == 0 for count in counts) == 0 or max(counts) <= 5
    assert sum(counts) == 60
    assert min(counts) >= 1


def test_of_many_teachers_a_part_is_asked_at_a_time():
    owners, counts = [0] * 10 + [150] * 10 + [-1] * 80, [0] * 200
    for call in range(1, 21):
        chosen, after = _draw(owners, 200, 5, counts=counts)
        asked = [new - old for old, new in zip(counts, after, strict=True)]
        assert all(owner in row for owner, row in zip(owners, chosen.tolist(), strict=True) if owner >= 0)
        assert sum(number > 0 for number in asked) <= AT_A_TIME * 5 + 2  # and the two that images came from
        assert sorted(asked)[-AT_A_TIME * 5] >= 10  # each about many images: 500 questions, 20 teachers
        counts = after
        if call % 10 == 0:  # once round
            others = [count for teacher, count in enumerate(counts) if teacher not in (0, 150)]
            assert max(others) - min(others) <= 25


def test_the_draw_depends_on_seed_and_counts_alone():
    first, counts = _draw([-1] * 9, 20, 3)
    torch.manual_seed(5)
    assert torch.equal(_draw([-1] * 9, 20, 3)[0], first)
    assert not torch.equal(_draw([-1] * 9, 20, 3, seed=1)[0], first)
    assert not torch.equal(_draw([-1] * 9, 20, 3, counts=counts)[0], first)


@pytest.mark.parametrize("asked", [None, 7, 8])
def test_few_teachers_are_all_asked(asked):
    assert choose_asked(torch.tensor([0, -1]), [0] * 7, asked, seed=0) is None
