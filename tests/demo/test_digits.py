"""The demo's pictures: real digits, where and how they are drawn, and that pixels do not give them away."""

from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits

from hf_free.data.episodes import sample_episodes
from hf_free.demo.digits import (
    CANVAS,
    DARKEST_INK,
    LARGEST,
    LIGHTEST_CANVAS,
    NEW_DIGITS,
    SMALLEST,
    TEACHERS_DIGITS,
    draw,
    drawn_digits,
)
from hf_free.errors import DatasetError
from hf_free.learner.scoring import mean_and_interval, score_episodes


def test_teachers_and_new_digits_share_no_class():
    assert not set(TEACHERS_DIGITS) & set(NEW_DIGITS)
    assert set(TEACHERS_DIGITS) | set(NEW_DIGITS) == set(range(10))


def test_every_handwritten_sample_is_drawn_and_keeps_its_label():
    data, real = drawn_digits((8, 3), copies=2), load_digits()
    expected = [(8, 3).index(digit) for digit in real.target.tolist() if digit in (8, 3)]
    assert data.images.shape == (2 * len(expected), 3, CANVAS, CANVAS)
    assert data.images.dtype == torch.uint8
    assert data.labels.tolist() == 2 * expected
    assert data.class_names == ["digit 8", "digit 3"]


def test_pictures_are_the_same_every_time_and_differ_between_copies():
    data = drawn_digits((7,), copies=2)
    assert torch.equal(data.images, drawn_digits((7,), copies=2).images)
    first, second = data.images.chunk(2)
    assert not any(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_full_square_lies_inside_the_canvas_with_the_size_and_colors_promised():
    images = draw(torch.ones(200, 8, 8), generator=torch.Generator().manual_seed(0)).float() / 255
    ink, canvas = images.amax((2, 3), keepdim=True), images.amin((2, 3), keepdim=True)
    assert ink.min() >= DARKEST_INK - 0.01
    assert canvas.max() <= LIGHTEST_CANVAS + 0.01
    inked = ((images - canvas) / (ink - canvas)).mean(1) > 0.5  # (N, H, W)
    sides = torch.stack([inked.any(2).sum(1), inked.any(1).sum(1)])  # rows, columns
    assert sides.min() >= SMALLEST - 1
    assert sides.max() <= LARGEST + 1
    assert sides[0].unique().numel() >= LARGEST - SMALLEST  # every size occurs
    tops, lefts = inked.any(2).float().argmax(1), inked.any(1).float().argmax(1)
    assert tops.unique().numel() > 8
    assert abs(torch.corrcoef(torch.stack([tops, lefts]).float())[0, 1]) < 0.5  # placed independently both ways
    assert (inked.flatten(1).sum(1) >= 0.97 * sides[0] * sides[1]).all()  # corners are blurred


@pytest.mark.parametrize("k_shot", [1, 5])
def test_pixels_leave_room_for_a_learner(k_shot):
    """Nearest class mean on pixels: above chance (33.3 %), but far below what plain digits give (75 and 90 %)."""
    data = drawn_digits()
    pixels = torch.nn.functional.adaptive_avg_pool2d(data.images.float() / 255, 8).flatten(1)
    episodes = sample_episodes(
        data.labels, n_way=3, k_shot=k_shot, n_query=15, episodes=300, generator=torch.Generator().manual_seed(0)
    )
    mean, interval = mean_and_interval(score_episodes(pixels - pixels.mean(0), episodes))
    assert mean + interval < {1: 0.42, 5: 0.48}[k_shot]


@pytest.mark.parametrize("digits", [(), (1, 10), (2, 2)])
def test_digits_that_cannot_be_drawn_are_refused(digits):
    with pytest.raises(DatasetError, match="digits"):
        drawn_digits(digits)
