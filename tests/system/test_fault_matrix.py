"""A share of the fault matrix; `make faults` runs all of it."""

from __future__ import annotations

import pytest
from fault_matrix import CELLS, PLACES, Cell, run_cells, table

SHARE = (
    *(Cell("fetch", "info", fault) for fault in ("500 once", "429, wait a day", "texts", "deep")),
    *(Cell("fetch", "body", fault) for fault in ("404", "corrupt", "truncate")),
    *(Cell("load", "info", fault) for fault in ("403", "a page")),
    *(Cell("save", "body", fault) for fault in ("close once", "corrupt")),
    *(Cell("push", "storage", fault) for fault in ("403", "503, wait a day", "lose once")),
    *(Cell("push", "commit", fault) for fault in ("lose once", "a list", "429, wait a day")),
    *(Cell("search", "listing", fault) for fault in ("nulls", "429, wait a day")),
)
"""Faults that are over soon, of every operation."""

QUICK = (SHARE[1], SHARE[5], SHARE[8], SHARE[10], SHARE[13], SHARE[16], SHARE[17])
"""One for each operation and each place of it."""


@pytest.mark.parametrize("share", [QUICK, pytest.param(SHARE, marks=pytest.mark.long)], ids=["some", "more"])
def test_a_share_of_the_matrix_is_green(monkeypatch, share):
    """And a fault that does not fire makes no green cell."""
    assert set(share) <= set(CELLS)
    monkeypatch.setitem(PLACES["search"], "nowhere", "/nobody/asks/for/this")
    unseen = Cell("search", "nowhere", "503")
    verdicts = run_cells((*share, unseen), at_once=8)
    assert verdicts.pop(unseen).startswith("the fault did not fire")
    assert len(verdicts) == len(share)
    assert not any(verdicts.values()), table(verdicts)
