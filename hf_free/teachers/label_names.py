"""Which of a teacher's class names say something about the class."""

from __future__ import annotations

import re

_PLACEHOLDER = re.compile(r"(?:(?:label|class|cls|category|output|target|index)[ _.:#-]*)?\d+", re.IGNORECASE)


def is_placeholder(name: str) -> bool:
    """Whether a class name is only a number: `LABEL_0`, which transformers writes where nobody named the classes,
    `class 3`, or a bare number.

    Two classes of different teachers are not the same because both are the third. Identifiers that name a class, such
    as WordNet's `n01440764`, are names.
    """
    return _PLACEHOLDER.fullmatch(name.strip()) is not None
