"""The methods by name."""

from __future__ import annotations

from hf_free.methods.registry import METHODS, list_methods


def test_each_stands_under_its_own_name_once():
    assert all(name == method.name for name, method in METHODS.items())
    assert len({method.title for method in list_methods()}) == len(METHODS)
    assert list_methods()[0].name == "default", "what is taken where nothing is said comes first"
