"""Pictures of the user's own, without labels: what teachers are asked about in place of a part of the drawn ones.

A learner that was made with them is not data-free, and its record and card say so.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hf_free.data.augment import shift_and_flip
from hf_free.runtime.random_streams import Stream

OWN_SHARE = 0.5
"""Share of them among the pictures that are not recovered."""


@dataclass(frozen=True)
class OwnPictures:
    """Real pictures at the size in which teachers are asked.

    Attributes:
        images: (N, C, S, S) bytes.
        flip: Whether they may be mirrored.
    """

    images: Tensor
    flip: bool = True

    def draw(self, count: int, stream: Stream) -> Tensor:
        """So many of them at random, shifted by up to an eighth and mirrored: (count, C, S, S) bytes."""
        places = torch.randint(len(self.images), (count,), generator=stream.on("cpu"))
        return shift_and_flip(self.images[places], flip=self.flip, stream=stream)
