"""The methods by name. A new one is a file of its own and a line here."""

from __future__ import annotations

from hf_free.config.recipes import RECIPES
from hf_free.methods import bidf_mkd, free, purer, tgr
from hf_free.methods.base import MakeInverter, Method, MethodSettings
from hf_free.methods.inversions import INVERSION_WAYS, Inversion

METHODS: dict[str, Method] = {}


def register(method: Method) -> None:
    """Register a method under its name, for `--method`, `hf-free methods`, the documentation, and its learners' cards.

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


def list_inversions() -> list[Inversion]:
    """All ways to invert that go by a name, in the order in which they are shown."""
    return list(INVERSION_WAYS.values())


def inverter_of(settings: MethodSettings) -> MakeInverter:
    """The factory of the inverter that settings ask for: the one they name, or their method's."""
    way = settings.inversion
    return METHODS[settings.method].inverter if way is None else INVERSION_WAYS[way].make


register(free.DEFAULT)
register(free.PAPER)
register(free.RELEASED)
register(purer.PURER)
register(tgr.TGR)
register(bidf_mkd.BIDF_MKD)
