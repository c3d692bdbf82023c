"""What `learner.init_from` says: weights that timm publishes, or a learner."""

from __future__ import annotations

from dataclasses import dataclass

TIMM = "timm:"
"""What the name of weights that timm publishes begins with."""


@dataclass(frozen=True)
class InitFrom:
    """What a learner starts from, or is compared with."""

    text: str
    """As it was written."""
    timm_name: str | None
    """timm's name of a network with weights, `resnet18.a1_in1k` for example; None for a learner."""

    @classmethod
    def parse(cls, text: str) -> InitFrom:
        """Read `timm:NAME`; anything else is a learner's Hub id or folder."""
        return cls(text, text.removeprefix(TIMM) if text.startswith(TIMM) else None)

    @property
    def is_learner(self) -> bool:
        """Whether it is a learner, rather than weights that were trained on images."""
        return self.timm_name is None

    @property
    def architecture(self) -> str | None:
        """timm's name of the network without the tag of its weights; None for a learner."""
        return None if self.timm_name is None else self.timm_name.split(".")[0]
