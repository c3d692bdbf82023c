"""The energy that a run takes, where codecarbon is installed (extra `energy`): no network is asked."""

from __future__ import annotations

import importlib.util
import logging
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol

from hf_free.provenance.run_record import Energy

logger = logging.getLogger(__name__)

PACKAGE = "codecarbon"


class _Totals(Protocol):
    """What is read of codecarbon's EmissionsData."""

    energy_consumed: float  # kWh since the start
    duration: float  # seconds since the start
    tracking_mode: str
    codecarbon_version: str
    gpu_count: int | None


class _Tracker(Protocol):
    """What is called of codecarbon's trackers."""

    def start(self) -> None: ...

    def flush(self) -> float | None: ...

    def stop(self) -> float | None: ...


class _Latest:
    """An output for codecarbon, which hands totals to nobody else in the middle of a run; the last ones are kept."""

    def __init__(self) -> None:
        self.totals: _Totals | None = None

    def out(self, total: _Totals, delta: _Totals) -> None:
        """Called by `flush` and `stop`."""
        self.totals = total

    def live_out(self, total: _Totals, delta: _Totals) -> None:
        """Called every few measurements."""

    def task_out(self, data: Sequence[object], experiment_name: str) -> None:
        """Called for tasks, of which there are none."""

    def exit(self) -> None:
        """Called at the end."""


class EnergyMeter:
    """Measures the energy of what is done within `with`; it does nothing without codecarbon, or unless `active`.

    Codecarbon takes many seconds to look at the machine, so it is started by a thread. What is used until it is ready
    is not measured: the result says how many seconds it is of.

    Args:
        active: Whether to measure; of a run's processes only the first does.
        machines: How many the run has. Only the first one is measured.

    Attributes:
        before: What earlier starts of the run took.
    """

    def __init__(self, *, active: bool = True, machines: int = 1) -> None:
        self.before = Energy()
        self._active, self._machines = active, machines
        self._latest, self._lock = _Latest(), threading.Lock()
        self._tracker: _Tracker | None = None
        self._is_over = False

    def __enter__(self) -> EnergyMeter:
        if self._active and importlib.util.find_spec(PACKAGE) is not None:
            threading.Thread(target=self._start, name="energy", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._is_over = True
            if self._tracker is None:
                return
            self._tracker.stop()
            if self._latest.totals is None:  # it says why only in its own log, which is silenced
                logger.warning("the energy is not measured: codecarbon gave no figures")

    def spent(self) -> Energy:
        """What all starts of the run have taken so far."""
        with self._lock:
            if self._tracker is None:
                return self.before
            if not self._is_over:
                self._tracker.flush()
            totals = self._latest.totals
            if totals is None:
                return self.before
            return self.before + Energy(totals.energy_consumed, totals.duration, self._how(self._tracker, totals))

    def _start(self) -> None:
        """Start codecarbon, unless the work is over by then."""
        try:
            from codecarbon import OfflineEmissionsTracker

            logging.getLogger(PACKAGE).setLevel(logging.CRITICAL)  # its constructor speaks before it knows log_level
            tracker: _Tracker = OfflineEmissionsTracker(
                log_level="critical",
                output_methods=[],
                output_handlers=[self._latest],
                emissions_endpoint=None,
                allow_multiple_runs=True,
                # CO2 is not asked for: with a fixed intensity it looks up no place and asks nobody
                force_carbon_intensity_g_co2e_kwh=0.0,
                country_iso_code=None,
                region=None,
                cloud_provider=None,
                cloud_region=None,
            )
            if self._is_over:
                return
            tracker.start()
        except Exception as error:  # whatever it meets, a run does without
            logger.warning("the energy is not measured: %s: %s", type(error).__name__, " ".join(str(error).split()))
            return
        with self._lock:
            if self._is_over:
                tracker.stop()
            else:
                self._tracker = tracker

    def _how(self, tracker: _Tracker, totals: _Totals) -> str:
        whose = "the whole machine" if totals.tracking_mode == "machine" else "this process"
        if self._machines > 1:
            whose += f", the first of {self._machines} machines"
        parts = [f"processor {_processor(tracker)}", "memory estimated", *(["GPUs measured"] * bool(totals.gpu_count))]
        return f"codecarbon {totals.codecarbon_version}, {whose}: {', '.join(parts)}"


def _processor(tracker: _Tracker) -> str:
    """How a processor's power is found, as codecarbon describes its hardware; it has no public way to ask."""
    settings = getattr(tracker, "_conf", None)
    described = settings.get("hardware") if isinstance(settings, dict) else None
    names = [text for text in described or [] if isinstance(text, str)]
    if any(name.startswith("CPU(Cpu Load") for name in names):
        return "estimated from its load"
    if any(name.startswith("CPU(") and " > " in name for name in names):  # model > its rated power
        return "estimated from its rated power"
    if any(name.startswith(("CPU(", "AppleSiliconChip", "Raspberry")) for name in names):
        return "measured"
    return "in a way that it does not say"
