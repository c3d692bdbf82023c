"""What the few-shot networks here share: timm's classifier interface around a stack of blocks."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

POOLS = ("", "avg", "max")

BUILD_ERRORS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What networks raise for arguments and pictures they cannot use (NotImplementedError is a RuntimeError)."""


def as_size(size: int | tuple[int, int] | list[int]) -> tuple[int, int]:
    """Read an image size given as one side or as (height, width)."""
    if isinstance(size, int):
        return size, size
    height, width = size
    return int(height), int(width)


def default_cfg(classifier: str, first_conv: str, *, fixed_input_size: bool) -> dict[str, object]:
    """timm's default configuration of a network for 32x32 RGB pictures, without published weights.

    Mean and std are those of CIFAR-100's training pictures, as FREE and the few-shot literature use them.
    """
    return {
        "url": "",
        "num_classes": 5,
        "input_size": (3, 32, 32),
        "pool_size": None,
        "fixed_input_size": fixed_input_size,
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "mean": (0.5071, 0.4867, 0.4408),
        "std": (0.2675, 0.2565, 0.2761),
        "first_conv": first_conv,
        "classifier": classifier,
    }


class SmallClassifier(nn.Module):
    """A stack `blocks`, a pooling and a linear `head`, with the methods timm expects of a classifier.

    Args:
        blocks: Maps (batch, in_chans, H, W) to (batch, channels, h, w).
        channels: Channels the blocks end with.
        grid: (h, w) the blocks end with for the nominal image size.
        num_classes: Outputs of the head; 0 leaves the features as output.
        in_chans: Channels of the input.
        global_pool: `avg` or `max` make any resolution possible; the empty text flattens the grid, and the head
            then takes the nominal image size only.
        drop_rate: Dropout before the head while training.
    """

    global_pool: str

    def __init__(
        self,
        blocks: nn.Module,
        *,
        channels: int,
        grid: tuple[int, int],
        num_classes: int,
        in_chans: int,
        global_pool: str,
        drop_rate: float,
    ) -> None:
        super().__init__()
        self.blocks = blocks
        self.channels, self.grid = channels, grid
        self.num_classes, self.in_chans, self.drop_rate = num_classes, in_chans, drop_rate
        self.reset_classifier(num_classes, global_pool)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Give the network a fresh head, and another pooling if one is named (timm's interface).

        Raises:
            ValueError: an unknown pooling.
        """
        global_pool = self.global_pool if global_pool is None else global_pool
        if global_pool not in POOLS:
            raise ValueError(f"global_pool={global_pool!r}; allowed: {', '.join(map(repr, POOLS))}")
        self.global_pool, self.num_classes = global_pool, num_classes
        cells = 1 if global_pool else self.grid[0] * self.grid[1]
        self.num_features = self.head_hidden_size = self.channels * cells
        self.head = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        # timm reads the traits when it saves a model: a flattened grid ties the head to one image size.
        self._traits = {"fixed_input_size": not global_pool}

    def get_classifier(self) -> nn.Module:
        """The head."""
        return self.head

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Feature maps (batch, channels, h, w) of normalized images."""
        return self.blocks(x)

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Pool or flatten feature maps, then classify them unless `pre_logits`."""
        if self.global_pool == "avg":
            x = x.mean(dim=(2, 3))
        elif self.global_pool == "max":
            x = x.amax(dim=(2, 3))
        else:
            x = x.flatten(1)
        if pre_logits:
            return x
        return self.head(F.dropout(x, self.drop_rate, self.training))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (batch, num_classes), or features where there is no head."""
        return self.forward_head(self.forward_features(x))
