"""Runs whose energy is told by the test, a quarter of a kilowatt-hour in a minute for each of their starts."""

from __future__ import annotations

import pytest
from replacing import replace_everywhere

from hf_free.provenance.run_record import Energy

TAKEN = Energy(0.25, 60.0, "told by the test")


class ToldMeter:
    """An `EnergyMeter` that says what each start of a run is to have taken."""

    def __init__(self, **options: object) -> None:
        self.before = Energy()

    def __enter__(self) -> ToldMeter:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def spent(self) -> Energy:
        return self.before + TAKEN


def meter_all_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every run such a meter."""
    replace_everywhere(monkeypatch, "hf_free.runtime.energy.EnergyMeter", ToldMeter)
