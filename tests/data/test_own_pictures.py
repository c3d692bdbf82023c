"""Pictures of the user's own: which are drawn, and how they are changed."""

from __future__ import annotations

import torch

from hf_free.data.own_pictures import OwnPictures
from hf_free.runtime.random_streams import Stream


def _shifted(picture, dy, dx, *, mirrored):
    """A picture (C, S, S) moved by so many pixels, its edges repeated."""
    size = picture.shape[-1]
    rows = [min(max(row + dy, 0), size - 1) for row in range(size)]
    columns = [size - 1 - column if mirrored else column for column in range(size)]
    columns = [min(max(column + dx, 0), size - 1) for column in columns]
    return picture[:, rows][:, :, columns]


def test_each_is_one_of_the_users_shifted_or_mirrored():
    images = torch.randint(256, (3, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    made = OwnPictures(images).draw(64, Stream(1))
    assert made.shape == (64, 3, 8, 8)
    assert made.dtype == torch.uint8
    moves = [(dy, dx, mirrored) for dy in (-1, 0, 1) for dx in (-1, 0, 1) for mirrored in (False, True)]
    known = {
        (place, move): _shifted(images[place], *move[:2], mirrored=move[2]) for place in range(3) for move in moves
    }
    found = [next(key for key, picture in known.items() if torch.equal(picture, one)) for one in made]
    assert {place for place, _ in found} == {0, 1, 2}
    assert {move[2] for _, move in found} == {False, True}
    assert torch.equal(OwnPictures(images).draw(64, Stream(1)), made)
    plain = OwnPictures(images, flip=False).draw(64, Stream(1))
    keys = [next(key for key, picture in known.items() if torch.equal(picture, one)) for one in plain]
    assert not any(mirrored for _, (_, _, mirrored) in keys)
