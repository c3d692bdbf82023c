"""Pictures of one size: their resize as matrix products is the antialiased one."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from hf_free.errors import LearnerError
from hf_free.learner.one_picture import check_input_size, fixed_resize, varied_pictures


@pytest.mark.parametrize("given", [(48, 31), (5, 3), (1, 1), (300, 200), (16, 40)])
def test_the_resize_is_the_antialiased_one(given):
    images = 255 * torch.rand(2, 3, *given, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(images, (16, 16), mode="bilinear", align_corners=False, antialias=True)
    # values reach 255, so 1e-3 is four units in the last place of a float of 32 bits, summed over a row
    torch.testing.assert_close(fixed_resize(given, 16)(images), expected, rtol=0, atol=1e-3)


def test_pictures_of_the_learners_size_are_taken_as_they_are():
    images = torch.randint(0, 256, (1, 3, 16, 16)).float()
    assert torch.equal(fixed_resize((16, 16), 16)(images), images)


@pytest.mark.parametrize("given", [(16, 16), (20, 31)])
@pytest.mark.parametrize("other", [(20, 16), (16, 20), (32, 32)])
def test_pictures_of_another_size_do_not_fit(given, other):
    with pytest.raises(RuntimeError, match=r"must match|cannot be multiplied|must be broadcastable|Expected size"):
        fixed_resize(given, 16)(torch.zeros(1, 3, *other))


@pytest.mark.parametrize("given", [(0, 5), (5, 0), (1001, 1000)])
def test_sizes_that_no_file_is_written_for_are_refused(given):
    with pytest.raises(LearnerError, match=f"pictures of {given[0]}x{given[1]}"):
        check_input_size(given)
    check_input_size((1000, 1000))


def test_what_is_compared_is_of_one_size_and_varied():
    images = varied_pictures(7, 4, torch.full((1, 3, 7, 4), 9, dtype=torch.uint8))
    assert images.shape == (7, 3, 7, 4)
    assert images.dtype == torch.uint8
    assert len({image.numpy().tobytes() for image in images}) == len(images)
