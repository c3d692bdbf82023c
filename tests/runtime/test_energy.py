"""Energy: with a codecarbon of the test's own, and with the real one where it is installed."""

from __future__ import annotations

import importlib.util
import socket
import sys
import threading
import time

import pytest

from hf_free.provenance.run_record import Energy
from hf_free.runtime.energy import EnergyMeter

PROGRAM = """
import types, threading

trackers, hold = [], threading.Event()
hold.set()

class OfflineEmissionsTracker:
    def __init__(self, **settings):
        assert not settings["output_methods"] and settings["country_iso_code"] is None
        self.settings, self.calls, self._conf = settings, [], {"hardware": ["RAM()", HARDWARE]}
        trackers.append(self)
        hold.wait(10)

    def start(self):
        self.calls.append("start")

    def flush(self):
        self.calls.append("flush")
        self._tell()

    def stop(self):
        self.calls.append("stop")
        self._tell()

    def _tell(self):
        told = {"energy_consumed": 0.002 * len(self.calls), "duration": 30.0 * len(self.calls), "gpu_count": 0}
        totals = types.SimpleNamespace(**told, tracking_mode="machine", codecarbon_version="9.1")
        for output in self.settings["output_handlers"]:
            output.out(totals, totals)
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a codecarbon that finds some hardware, and gives it back once it is imported."""
    monkeypatch.delitem(sys.modules, "codecarbon", raising=False)

    def put(hardware="CPU(Cpu Load)", program=PROGRAM):
        (tmp_path / "codecarbon.py").write_text(program.replace("HARDWARE", repr(hardware)))
        monkeypatch.syspath_prepend(tmp_path)

    yield put
    sys.modules.pop("codecarbon", None)


def started():
    """Wait until codecarbon has been started, or has failed; the tracker, if any."""
    for thread in threading.enumerate():
        if thread.name == "energy":
            thread.join(20)
    made = getattr(sys.modules["codecarbon"], "trackers", [])
    return made[-1] if made else None


def test_without_codecarbon_nothing_is_started(monkeypatch):
    monkeypatch.setitem(sys.modules, "codecarbon", None)
    before = threading.active_count()
    with EnergyMeter() as meter:
        assert threading.active_count() == before
        meter.before = Energy(0.5, 60.0, "as told")
        assert meter.spent() == Energy(0.5, 60.0, "as told")


def test_of_a_runs_processes_one_measures(install):
    install()
    with EnergyMeter(active=False) as meter:
        assert not meter.spent()
    assert "codecarbon" not in sys.modules


def test_what_was_taken_adds_up_over_resumptions(install):
    install()
    with EnergyMeter() as meter:
        meter.before = Energy(0.5, 60.0, "codecarbon 9.0")
        tracker = started()
        calls = len(tracker.calls)
        spent = meter.spent()
        assert spent.kwh == pytest.approx(0.5 + 0.002 * (calls + 1))
        assert spent.seconds == pytest.approx(60 + 30 * (calls + 1))
    assert tracker.calls[0] == "start"
    assert tracker.calls[-1] == "stop"
    assert meter.spent().kwh == pytest.approx(0.5 + 0.002 * (calls + 2))
    how = "codecarbon 9.1, the whole machine: processor estimated from its load, memory estimated"
    assert meter.spent().how == how


@pytest.mark.parametrize(
    ("hardware", "says"),
    [
        ("CPU(Intel Rapl)", "processor measured"),
        ("AppleSiliconChip (M2 > CPU)", "processor measured"),
        ("CPU(Some Xeon > 85W [generic])", "processor estimated from its rated power"),
        ("a thing of later versions", "processor in a way that it does not say"),
    ],
)
def test_how_the_processors_power_was_found_is_said(install, hardware, says):
    install(hardware)
    with EnergyMeter(machines=3) as meter:
        started()
        assert says in meter.spent().how
        assert "the first of 3 machines" in meter.spent().how


def test_a_run_that_is_over_first_does_not_wait(install):
    install(program=PROGRAM.replace("hold.set()", ""))
    with EnergyMeter() as meter:
        for _ in range(2000):
            if "codecarbon" in sys.modules and getattr(sys.modules["codecarbon"], "trackers", None):
                break
            time.sleep(0.01)
    assert not meter.spent()
    sys.modules["codecarbon"].hold.set()
    assert started().calls == []


def test_a_codecarbon_that_breaks_is_said_and_ends_no_run(install, caplog):
    install(
        program="class OfflineEmissionsTracker:\n    def __init__(self, **settings):\n        raise OSError('no')\n"
    )
    with EnergyMeter() as meter:
        assert started() is None
        assert not meter.spent()
    assert caplog.messages == ["the energy is not measured: OSError: no"]


def test_a_codecarbon_that_says_nothing_is_said(install, caplog):
    install(program=PROGRAM.replace("output.out(totals, totals)", "pass"))
    with EnergyMeter() as meter:
        started()
        assert not meter.spent()
    assert caplog.messages == ["the energy is not measured: codecarbon gave no figures"]


def test_the_real_one_measures_without_a_network_a_file_or_a_word(tmp_path, monkeypatch, capfd):
    if importlib.util.find_spec("codecarbon") is None:
        pytest.skip("codecarbon is not installed")
    asked = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: asked.append(address) or self.close())
    monkeypatch.setattr(socket, "getaddrinfo", lambda *words, **options: asked.append(words) or [])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    with EnergyMeter() as meter:
        end = time.monotonic() + 60
        while not meter.spent() and time.monotonic() < end:
            time.sleep(0.1)
        early = meter.spent()
        time.sleep(0.5)
    assert 0 < early.kwh < meter.spent().kwh < 0.1
    assert meter.spent().seconds > 0.5
    assert "does not say" not in meter.spent().how
    assert (asked, list(tmp_path.iterdir()), *capfd.readouterr()) == ([], [], "", "")
