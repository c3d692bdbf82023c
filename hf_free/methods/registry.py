"""The methods by name. A new one is a file of its own and a line here."""

from __future__ import annotations

from hf_free.methods import free
from hf_free.methods.base import Method

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        free.DEFAULT,
        free.PAPER,
        free.RELEASED,
    )
}


def list_methods() -> list[Method]:
    """All methods, in the order in which they are shown."""
    return list(METHODS.values())
