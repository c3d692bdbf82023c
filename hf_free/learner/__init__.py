"""The few-shot learner: what is published, and how it adapts to new classes."""

from __future__ import annotations

from hf_free.errors import HfFreeError

__all__ = ["LearnerError"]


class LearnerError(HfFreeError):
    """A learner's repository that cannot be read, or pictures and labels it cannot adapt to."""
