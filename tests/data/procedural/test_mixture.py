"""What is drawn for which teachers: leaves and emblems, or strokes where the colors are those of writing."""

from __future__ import annotations

import pytest
import torch

from hf_free.data.procedural.dead_leaves import dead_leaves
from hf_free.data.procedural.emblems import emblems
from hf_free.data.procedural.mixture import draw, is_two_toned, picture_colors
from hf_free.data.procedural.strokes import strokes

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SIGNS = ((0.334, 0.293, 0.292), (0.280, 0.271, 0.276))
MNIST = ((0.1307,), (0.3081,))
OMNIGLOT = ((0.924,) * 3, (0.22,) * 3)


def _generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("kind", [dead_leaves, strokes, emblems])
def test_same_seed_same_pictures_and_the_global_state_is_left_alone(kind):
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first, again, other = (kind(3, 16, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", [dead_leaves, strokes, emblems])
@pytest.mark.parametrize("size", [8, 17, 64])
def test_shape_and_range(kind, size):
    pictures = kind(5, size, generator=_generator())
    assert pictures.shape == (5, 3, size, size)
    assert pictures.dtype == torch.float32
    assert 0 <= pictures.min() < pictures.max() <= 1
    assert torch.isfinite(pictures).all()


@pytest.mark.parametrize(
    ("colors", "wanted"),
    [(IMAGENET, False), (SIGNS, False), (((0.5,), (0.2,)), False), (MNIST, True), (OMNIGLOT, True)],
)
def test_two_tones(colors, wanted):
    assert is_two_toned(*colors) is wanted


def test_black_and_white_has_all_the_variance_there_can_be():
    values = (torch.rand(100_000, generator=_generator()) < 0.3).float()
    share = values.var() / (values.mean() * (1 - values.mean()))
    assert share.item() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(
    ("mean", "std", "colors"),
    [
        ((0.1, 0.2, 0.3), (0.2, 0.2, 0.2), ([0.1, 0.2, 0.3], [0.2, 0.2, 0.2])),
        ((0.0,) * 3, (1 / 255,) * 3, ([0.5] * 3, [0.25] * 3)),
        ((0.0,), (1.0,), ([0.5], [0.25])),
        ((0.5,), (0.5,), ([0.5], [0.25])),  # normalized to [-1, 1], which says nothing of the pictures
    ],
)
def test_colors_that_no_pictures_have(mean, std, colors):
    assert picture_colors(mean, std) == colors


def test_teachers_of_photographs_get_leaves_as_they_are():
    mean, std = torch.tensor(IMAGENET[0]), torch.tensor(IMAGENET[1])
    drawn = draw([IMAGENET, IMAGENET], 8, 16, channels=3, generator=_generator())
    torch.testing.assert_close(drawn, dead_leaves(8, 16, generator=_generator(), mean=mean, std=std))


def test_teachers_of_writing_get_strokes_in_one_channel():
    drawn = draw([MNIST], 8, 16, channels=1, generator=_generator())
    wanted = strokes(8, 16, generator=_generator(), mean=MNIST[0][0], std=MNIST[1][0])
    torch.testing.assert_close(drawn, wanted.mean(1, keepdim=True))


def test_both_get_their_share():
    drawn = draw([IMAGENET, MNIST, IMAGENET], 30, 16, channels=3, generator=_generator())
    assert drawn.shape == (30, 3, 16, 16)
    leaves, scribbles = drawn[:20], drawn[20:]
    assert leaves.mean((0, 2, 3)).tolist() == pytest.approx(IMAGENET[0], abs=0.02)
    assert scribbles.median() < 0.1  # a dark ground


def test_a_share_of_the_pictures_of_anything_but_writing_are_emblems():
    drawn = draw([IMAGENET, MNIST], 30, 16, channels=3, generator=_generator(), emblem_share=1 / 3)
    generator = _generator()
    mean, std = torch.tensor(IMAGENET[0]), torch.tensor(IMAGENET[1])
    parts = [(dead_leaves, 10), (emblems, 5)]
    expected = [kind(number, 16, generator=generator, mean=mean, std=std) for kind, number in parts]
    torch.testing.assert_close(drawn[:15], torch.cat(expected))
    torch.testing.assert_close(drawn[15:], strokes(15, 16, generator=generator, mean=MNIST[0][0], std=MNIST[1][0]))


def test_no_colors_at_all():
    assert draw([], 4, 16, channels=3, generator=_generator()).shape == (4, 3, 16, 16)


# ---- in pieces


def test_many_large_pictures_are_drawn_in_pieces(monkeypatch):
    whole = draw([IMAGENET, MNIST], 20, 16, channels=3, generator=_generator(), emblem_share=0.5)
    drawn = []
    for kind in ("dead_leaves", "emblems", "strokes"):
        original = {"dead_leaves": dead_leaves, "emblems": emblems, "strokes": strokes}[kind]

        def counted(count, *args, original=original, kind=kind, **options):
            drawn.append((kind, count))
            return original(count, *args, **options)

        monkeypatch.setattr(f"hf_free.data.procedural.mixture.{kind}", counted)
    same = draw([IMAGENET, MNIST], 20, 16, channels=3, generator=_generator(), emblem_share=0.5)
    assert torch.equal(whole, same)  # few small ones are drawn at once
    assert drawn == [("dead_leaves", 5), ("emblems", 5), ("strokes", 10)]
    drawn.clear()
    monkeypatch.setattr("hf_free.runtime.memory_budget.PIXELS_AT_ONCE", 4 * 16 * 16)
    pieces = draw([IMAGENET, MNIST], 20, 16, channels=3, generator=_generator(), emblem_share=0.5)
    assert pieces.shape == whole.shape
    assert drawn == [*[("dead_leaves", n) for n in (3, 2)], *[("emblems", n) for n in (3, 2)],
                     *[("strokes", n) for n in (4, 3, 3)]]  # fmt: skip
