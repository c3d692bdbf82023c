"""Reading the pictures that a user gives without labels (`memory.pictures`)."""

from __future__ import annotations

import logging

import torch

from hf_free.data.images import Preprocessing, read_batch
from hf_free.data.own_pictures import OwnPictures
from hf_free.errors import DatasetError
from hf_free.evaluation.picture_sources import find_pictures
from hf_free.runtime.text import count_text

logger = logging.getLogger(__name__)

MOST_PICTURES = 20_000
"""Most pictures that are read; of more every so many-th is."""

LEAST_PICTURES = 16
"""Fewest pictures: from fewer, nothing can be learned that was not in them."""


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
    found = find_pictures([folder])
    chosen = found
    if len(found) > MOST_PICTURES:
        places = torch.linspace(0, len(found) - 1, MOST_PICTURES).long().tolist()
        chosen = [found[place] for place in places]
        logger.warning("of %s pictures in %s, %s are used", f"{len(found):,}", folder, f"{MOST_PICTURES:,}")
    channels, side = size
    batch = read_batch([one.path for one in chosen], Preprocessing(side, channels), keep_going=True)
    for place, error in list(batch.errors.items())[:3]:
        logger.warning("left out: %s: %s", chosen[place].name, error.given)
    if len(batch.errors) > 3:
        logger.warning("left out: %d more pictures that cannot be read", len(batch.errors) - 3)
    if len(batch.images) < LEAST_PICTURES:
        raise DatasetError(
            f"{folder} holds {count_text(len(batch.images))} picture(s) that can be read",
            allowed=f"at least {LEAST_PICTURES}, better some thousand, of the kind that the learner is for",
            action="give a larger folder, or leave out --pictures: then a program draws them all",
        )
    images = batch.images
    if images.dtype != torch.uint8:
        images = (images * 255).round().to(torch.uint8)
    logger.warning(
        "teachers are asked about %s pictures of yours: this learner is not data-free, and its card will say so",
        f"{len(images):,}",
    )
    return OwnPictures(images, flip)
