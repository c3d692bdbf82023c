"""Reading the pictures that a user gives without labels (`memory.pictures`)."""

from __future__ import annotations

import logging
import os

import torch
from torch import Tensor

from hf_free.data.images import Preprocessing, read_batch
from hf_free.data.own_pictures import OwnPictures
from hf_free.errors import DatasetError
from hf_free.evaluation.picture_sources import find_pictures
from hf_free.inversion.task import to_uint8
from hf_free.runtime.text import count_text

logger = logging.getLogger(__name__)

MOST_PICTURES = 20_000
"""Most pictures that are read; of more every so many-th is."""

LEAST_PICTURES = 16
"""Fewest pictures: from fewer, nothing can be learned that was not in them."""

AT_ONCE = 512
"""Pictures that are read before they become bytes: a single one of 16 bits makes floats of all that are read with
it, four times as large."""


def read_own_pictures(folder: str | None, size: tuple[int, int], *, flip: bool) -> OwnPictures | None:
    """The pictures of a folder and of all folders in it; None without one. What cannot be read is said and left out.

    Args:
        folder: The folder, or a pattern of files.
        size: Channels, and height and width, in which teachers are asked about them.
        flip: Whether they may be mirrored.

    Raises:
        DatasetError: no such folder, or too few pictures that can be read.
    """
    if folder is None:
        return None
    try:
        found = find_pictures([os.path.abspath(folder)])  # "-" is a folder here, not the list of another verb
    except DatasetError as error:
        action = "give a folder of pictures, or a pattern such as 'new/*.jpg'"
        raise DatasetError(error.given, allowed=error.allowed, action=action) from None
    chosen = found
    if len(found) > MOST_PICTURES:
        places = torch.linspace(0, len(found) - 1, MOST_PICTURES).long().tolist()
        chosen = [found[place] for place in places]
        logger.warning("of %s pictures in %s, %s are used", f"{len(found):,}", folder, f"{MOST_PICTURES:,}")
    channels, side = size
    read, left_out = list[Tensor](), list[str]()
    for begin in range(0, len(chosen), AT_ONCE):
        part = read_batch(
            [one.path for one in chosen[begin : begin + AT_ONCE]], Preprocessing(side, channels), keep_going=True
        )
        read.append(part.images if part.images.dtype == torch.uint8 else to_uint8(part.images))
        left_out += [error.given for error in part.errors.values()]
    for given in left_out[:3]:
        logger.warning("left out: %s", given)
    if len(left_out) > 3:
        logger.warning("left out: %s more that cannot be read", count_text(len(left_out) - 3))
    images = torch.cat(read)
    if len(images) < LEAST_PICTURES:
        if os.path.isfile(folder):
            raise DatasetError(
                f"{folder} is a file", allowed="a folder of pictures, or a pattern", action="unpack an archive first"
            )
        raise DatasetError(
            f"{folder} holds {count_text(len(images))} picture(s) that can be read",
            allowed=f"at least {LEAST_PICTURES}, better some thousand, of the kind that the learner is for",
            action="give a larger folder, or leave out --pictures: then a program draws them all",
        )
    logger.warning(
        "teachers are asked about %s pictures of yours: this learner is not data-free, and its card will say so",
        f"{len(images):,}",
    )
    return OwnPictures(images, flip)
