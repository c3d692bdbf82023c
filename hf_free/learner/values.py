"""Rules that values of a learner's `config.json` are held against, and the one refusal.

A repository is written by a stranger: no value goes on unchecked, and each refusal names key, value and rule.
"""

from __future__ import annotations

from collections.abc import Callable

from hf_free.errors import LearnerError
from hf_free.learner.format import CONFIG
from hf_free.runtime.given import short_form

MAX_WIDTH = 1_000_000
"""Largest number of features or answers."""


def demand(good: object, source: str, key: str, value: object, rule: str) -> None:
    """Refuse a value that breaks its rule.

    Args:
        good: Whether the value keeps its rule.
        source: The learner's name.
        key: Where the value stands in config.json.
        value: It.
        rule: What is allowed, in words.

    Raises:
        LearnerError: with all of these.
    """
    if not good:
        raise LearnerError(
            f"{source}: {key} of {CONFIG} is {short_form(value)}",
            allowed=rule,
            action="save or push the learner again",
        )


def whole(low: int, high: int) -> Callable[[object], bool]:
    """The rule of a whole number in this range."""
    return lambda value: type(value) is int and low <= value <= high


def real(low: float, high: float) -> Callable[[object], bool]:
    """The rule of a number in this range."""
    # compared, never converted: a whole number of 400 digits has no float
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def is_list_of(values: object, rule: Callable[[object], bool]) -> bool:
    """Whether it is a list, not too long, of values that keep a rule."""
    return isinstance(values, list | tuple) and len(values) <= MAX_WIDTH and all(map(rule, values))
