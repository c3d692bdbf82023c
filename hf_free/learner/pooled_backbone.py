"""The backbone of a pooled learner: its teachers themselves, asked one after the other.

A learner knows no teachers (`docs/design.md`). What it is handed is a sequence of frozen classifiers, each of which
takes images in [0, 1] and gives logits and features; whether they all lie in memory is that sequence's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from hf_free.errors import LearnerError

KIND = "pooled"
"""Value of `learner.backbone` for a pooled learner, where others name a network of timm's."""


class FrozenClassifier(Protocol):
    """A classifier that is asked and never changed."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 1 or 3, H, W) in [0, 1] -> logits (B, C) and features (B, F)."""


class PooledBackbone(nn.Module):
    """Asks frozen classifiers about the same images: (B, C, H, W) in [0, 1] -> (B, all features, then all logits).

    They are not registered as submodules: moving, training, saving or counting the learner leaves them alone, and a
    copy of the backbone asks the same ones.

    Args:
        classifiers: In the order of their columns; one is taken at a time, so that a pool under a memory budget may
            load it then.
        feature_sizes: Width of each one's features; 0 leaves them out.
        answer_sizes: Number of each one's logits; 0 leaves them out.
        channels: 1 or 3.
        included: Folder whose `teachers/` holds the classifiers' files; None where a learner's folder only names them.
    """

    def __init__(
        self,
        classifiers: Sequence[FrozenClassifier],
        feature_sizes: Sequence[int],
        answer_sizes: Sequence[int],
        *,
        channels: int = 3,
        included: Path | None = None,
    ) -> None:
        super().__init__()
        self.feature_sizes, self.answer_sizes, self.channels = tuple(feature_sizes), tuple(answer_sizes), channels
        self.num_features, self.included = sum(self.feature_sizes) + sum(self.answer_sizes), included
        self._unregistered = (classifiers,)  # a tuple hides modules from nn.Module's registration

    @property
    def classifiers(self) -> Sequence[FrozenClassifier]:
        """Those that are asked."""
        return self._unregistered[0]

    @property
    def pretrained_cfg(self) -> dict[str, object]:
        """What config.json says of a backbone: each classifier normalizes for itself."""
        return {"architecture": KIND, "mean": [0.0] * self.channels, "std": [1.0] * self.channels}

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """What all classifiers say of images, in 32 bits and without gradients.

        Raises:
            LearnerError: a classifier whose features or logits are of another width.
        """
        features, answers = [], []
        sizes = zip(self.feature_sizes, self.answer_sizes, strict=True)
        for place, (feature_size, answer_size) in enumerate(sizes):
            if not feature_size and not answer_size:
                continue
            classifier = self.classifiers[place]
            logits, seen = classifier(images.to(classifier.device))
            for kind, found, size in (("features", seen, feature_size), ("classes", logits, answer_size)):
                if size and found.shape[1:] != (size,):
                    raise LearnerError(f"teacher {place + 1} has {found.shape[1]} {kind}", allowed=f"{size}")
            features += [seen.float().to(images.device)] if feature_size else []
            answers += [logits.float().to(images.device)] if answer_size else []
        return torch.cat([*features, *answers], 1)

    def asking(self, classifiers: Sequence[FrozenClassifier]) -> PooledBackbone:
        """The same with other classifiers in the places of these."""
        return PooledBackbone(
            classifiers, self.feature_sizes, self.answer_sizes, channels=self.channels, included=self.included
        ).train(self.training)

    def __deepcopy__(self, memo: dict[int, object]) -> PooledBackbone:
        return self.asking(self.classifiers)
