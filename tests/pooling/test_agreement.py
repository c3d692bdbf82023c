"""Agreement of tables, and the share that each has in their compromise."""

from __future__ import annotations

import torch

from hf_free.pooling.agreement import agreement, compromise, effective_rank, kinds_of, see_apart


def tables():
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(40, 6, generator=generator)
    near = [common @ torch.randn(6, width, generator=generator) for width in (4, 9, 12)]
    return [*near, torch.randn(40, 5, generator=generator)]


def test_agreement_is_escoufiers_coefficient():
    found, given = agreement(tables()), tables()
    for i, one in enumerate(given):
        for j, other in enumerate(given):
            x, y = one - one.mean(0), other - other.mean(0)
            between, own = x.T @ y, [(z.T @ z).square().sum().sqrt() for z in (x, y)]
            assert torch.isclose(found[i, j], between.square().sum() / (own[0] * own[1]), atol=1e-5)


def test_it_sees_no_rotation_no_scale_and_no_shift():
    one = tables()[1]
    turned = 3 * one @ torch.linalg.qr(torch.randn(9, 9, generator=torch.Generator().manual_seed(1)))[0] + 5
    assert torch.allclose(agreement([one, turned]), torch.ones(2, 2), atol=1e-5)


def test_shares_are_the_fixed_point_of_counting_agreement():
    coefficients = agreement(tables())
    shares = torch.full((4,), 0.25)
    for _ in range(200):  # the power method
        shares = coefficients @ shares
        shares = shares / shares.norm()
    assert torch.allclose(compromise(coefficients), shares, atol=1e-5)


def test_a_table_of_its_own_counts_least():
    shares = compromise(agreement(tables()))
    assert shares.argmin() == 3
    assert torch.isclose(shares.norm(), torch.tensor(1.0))


def test_a_table_that_says_nothing_counts_nothing():
    shares = compromise(agreement([*tables(), torch.ones(40, 3)]))
    assert shares[-1] < 1e-6
    assert bool((shares[:-1] > 0).all())


def test_effective_rank_counts_directions():
    generator = torch.Generator().manual_seed(0)
    flat = torch.linalg.qr(torch.randn(50, 8, generator=generator) - 0)[0]
    centered = flat - flat.mean(0)
    values = torch.linalg.svdvals(centered).square()
    shares = values / values.sum()
    expected = (-(shares * shares.log()).sum()).exp().item()
    assert abs(effective_rank(flat) - expected) < 1e-3
    assert abs(effective_rank(torch.cat([flat, torch.zeros(50, 100)], 1)) - expected) < 1e-3
    line = torch.arange(9.0)[:, None] @ torch.ones(1, 4)
    assert abs(effective_rank(line) - 1) < 1e-6
    assert abs(effective_rank(torch.ones(9, 4)) - 1) < 1e-6


def test_a_table_with_two_votes_counts_as_if_it_were_there_twice():
    given = tables()
    twice = compromise(agreement([given[0], *given]))
    votes = compromise(agreement(given), torch.tensor([2.0, 1.0, 1.0, 1.0]))
    assert torch.allclose(votes / votes[0], twice[1:] / twice[0], atol=1e-4)


def noisy(common, count, generator):
    """Tables that see the same, each with noise of its own."""
    return [
        common @ torch.randn(8, 12, generator=generator) + torch.randn(len(common), 12, generator=generator)
        for _ in range(count)
    ]


def test_several_kinds_are_seen_apart_and_one_kind_is_not():
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(200, 8, generator=generator) for _ in range(2))
    alike, unlike = noisy(one, 8, generator), noisy(other, 8, generator)
    assert not see_apart(agreement(alike))
    assert not see_apart(agreement(unlike))
    assert see_apart(agreement([*alike, *unlike]))
    assert see_apart(agreement([*alike[:4], *unlike[:3]]))


def test_three_kinds_are_found_and_who_is_of_which():
    generator = torch.Generator().manual_seed(0)
    sources = [torch.randn(200, 8, generator=generator) for _ in range(3)]
    tables = [table for source in sources for table in noisy(source, 5, generator)]
    order = torch.randperm(15, generator=generator).tolist()
    found = kinds_of(agreement([tables[place] for place in order]))
    of_table = dict(zip(order, found, strict=True))
    kinds = [{of_table[place] for place in range(start, start + 5)} for start in (0, 5, 10)]
    assert [len(kind) for kind in kinds] == [1, 1, 1]
    assert len(set.union(*kinds)) == 3


def test_kinds_of_too_few_tables_are_none():
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(200, 8, generator=generator) for _ in range(2))
    assert kinds_of(agreement([*noisy(one, 6, generator), *noisy(other, 2, generator)])) is None
    assert kinds_of(torch.eye(3)) is None


def test_of_three_tables_nothing_is_said():
    assert not see_apart(torch.eye(3))
