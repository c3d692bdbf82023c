"""Resizing tensors, against Pillow and plain indexing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from hf_free.data.resizing import FILTERS, resize

KINDS = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("size", [(9, 13), (40, 25)])
def test_a_resized_picture_is_pillows(name, size):
    small = torch.rand(1, 3, 4, 3, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(small, (24, 18), mode="bilinear")  # Pillow clips noise between its passes
    pixels = (50 + 150 * smooth[0]).to(torch.uint8)
    expected = np.asarray(Image.fromarray(pixels.permute(1, 2, 0).numpy()).resize(size[::-1], KINDS[name]))
    found = (255 * resize(pixels[None].float() / 255, size, name)).round()[0].permute(1, 2, 0).numpy()
    assert np.abs(found - expected).max() <= 1  # Pillow computes in whole numbers


@pytest.mark.parametrize("factor", [0.5, 2])
def test_nearest_takes_the_pixel_at_the_middle(factor):
    images = torch.rand(1, 3, 24, 18, generator=torch.Generator().manual_seed(0))
    height, width = int(24 * factor), int(18 * factor)
    rows = [int((place + 0.5) / factor) for place in range(height)]
    columns = [int((place + 0.5) / factor) for place in range(width)]
    assert torch.equal(resize(images, (height, width), "nearest"), images[:, :, rows][..., columns])


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
