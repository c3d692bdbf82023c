"""Random shift and flip, against plain slicing."""

from __future__ import annotations

import pytest
import torch

from hf_free.data.augment import shift_and_flip


def test_shift_and_flip_moves_whole_pictures_within_an_eighth():
    torch.manual_seed(0)
    images = torch.rand(30, 1, 8, 8)  # an eighth is one pixel
    seen = []
    for before, after in zip(images, shift_and_flip(images), strict=True):
        found = [
            (is_flipped, dy, dx)
            for is_flipped in (False, True)
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
            if torch.equal(_moved(before.flip(-1) if is_flipped else before, dy, dx), after)
        ]
        assert len(found) == 1, "a picture that is neither a shift nor a mirrored shift of the one given"
        seen += found
    for place, values in enumerate(({False, True}, {-1, 0, 1}, {-1, 0, 1})):
        assert {move[place] for move in seen} == values


def test_shifts_without_flips():
    torch.manual_seed(0)
    images = torch.rand(30, 1, 8, 8)
    for before, after in zip(images, shift_and_flip(images, flip=False), strict=True):
        assert any(torch.equal(_moved(before, dy, dx), after) for dy in (-1, 0, 1) for dx in (-1, 0, 1))


def _moved(picture: torch.Tensor, dy: int, dx: int) -> torch.Tensor:
    """The picture shifted pixel by pixel, its edges repeated."""
    _, height, width = picture.shape
    moved = torch.empty_like(picture)
    for y in range(height):
        for x in range(width):
            moved[:, y, x] = picture[:, min(max(y + dy, 0), height - 1), min(max(x + dx, 0), width - 1)]
    return moved


def test_shift_and_flip_lets_gradients_through():
    images = torch.rand(4, 1, 8, 8, requires_grad=True)
    shift_and_flip(images).sum().backward()
    assert images.grad.sum().item() == pytest.approx(images.numel())  # each pixel shown was taken from one given
