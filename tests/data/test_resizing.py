"""Resizing tensors, against Pillow and plain indexing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from hf_free.data.resizing import FILTERS, resize

KINDS = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC, "nearest": Image.NEAREST}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("size", [(9, 13), (40, 25)])
def test_a_resized_picture_is_pillows(name, size):
    pixels = torch.randint(0, 256, (24, 18, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = pixels.permute(2, 0, 1)[None].float() / 255
    expected = np.asarray(Image.fromarray(pixels.numpy()).resize(size[::-1], KINDS[name]))
    found = (255 * resize(images, size, name)).round()[0].permute(1, 2, 0).numpy()
    assert np.abs(found - expected).max() <= 2  # Pillow computes in whole numbers


def test_other_names_are_bilinear_and_lanczos_is_the_nearest_there_is():
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    assert torch.equal(resize(images, (7, 7), "hamming"), resize(images, (7, 7), "bilinear"))
    assert torch.equal(resize(images, (7, 7), "lanczos"), resize(images, (7, 7), "bicubic"))
    assert set(FILTERS) == {"bilinear", "bicubic", "nearest", "lanczos"}


def test_bicubic_stays_within_its_range_and_lets_gradients_through():
    images = (torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(2)) > 0.5).float().requires_grad_()
    resized = resize(images, (31, 31), "bicubic")
    assert (resized.min(), resized.max()) == (0, 1), "it would overshoot"
    assert resize(255 * images, (31, 31), "bicubic", limit=255.0).max() == 255
    resized.sum().backward()
    assert images.grad.abs().sum() > 0


def test_pictures_of_that_size_are_left_alone():
    images = torch.rand(1, 3, 5, 6)
    assert resize(images, (5, 6), "bicubic") is images
