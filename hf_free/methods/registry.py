"""The methods by name. A new one is a file of its own and a line here."""

from __future__ import annotations

from hf_free.config.recipes import RECIPES
from hf_free.methods import bidf_mkd, free
from hf_free.methods.base import Method

METHODS: dict[str, Method] = {}


def register(method: Method) -> None:
    """Make a method known by its name: to `--method`, `hf-free methods`, the documentation, and its learners' cards.

    Raises:
        ValueError: the name is taken.
    """
    if method.name in METHODS:
        raise ValueError(f"there is a method {method.name!r} already: {METHODS[method.name].title}")
    METHODS[method.name] = method
    RECIPES.setdefault(method.name, dict(method.constants))


def list_methods() -> list[Method]:
    """All methods, in the order in which they are shown."""
    return list(METHODS.values())


register(free.DEFAULT)
register(free.PAPER)
register(free.RELEASED)
register(bidf_mkd.BIDF_MKD)
